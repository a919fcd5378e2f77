"""A run on pictures with many labels of seconds, for tests; `data.path` is to be set."""

from mhe_jax.recipes import heads, image_folder


def get_config(arg="", head="ohe"):
    config = image_folder.make(getattr(heads, head), ",".join(filter(None, ["small", "labels", arg])))
    config.data.update(image_size=8, channels=3, augmentation="flip_crop")
    config.backbone.update(features_dim=16, widths=(4, 8))
    if head != "ohe":
        config.head.head_sizes = (2, 2)
    config.total_steps, config.global_batch_size, config.log_every_steps = 12, 16, 4
    config.eval_every_steps = config.checkpoint_every_steps = 6
    return config
