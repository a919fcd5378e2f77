"""What the image-folder configs share: ResNet-50 on streamed pictures, or a small network on pictures in memory."""

from mhe_jax.recipes import glyphs, heads, pictures
from mhe_jax.recipes.arguments import one_of, parse
from mhe_jax.recipes.base import base_config
from mhe_jax.recipes.propensity import DEFAULT

# Of pictures with labels in files; a share of the training pictures is held out where there is no val/.
LABELS = {
    "valid_share": 0.0,
    "label_column": "",
    "label_separator": "",
    "propensity": DEFAULT,
}


def make(head, arg, small_codes=None):
    """The config of one head, perhaps with codes for `small`. Arguments: head sizes such as 40x25, `small`, `labels`,
    `single`, `tfds`, `smoke`.

    With `small` the pictures decide: colour ones are cropped and flipped, grey ones distorted as drawings, and few of
    them are trained on in small batches.

    `labels` reads pictures with any number of labels each, which files beside them tell; with `single` just one each.

    `tfds` reads the tensorflow-datasets image set `data.dataset`, prepared as ArrayRecord in `data.path`.
    `vit_s16`, `vit_b16` and `convnext_t` are other networks, to be fine-tuned from a checkpoint (`init_from`).
    `augment` lists the parts of an augmentation of one's own, all off, for flags to set.
    """
    sizes, flags = parse(arg, "small", "labels", "single", "tfds", "augment", "smoke", *pictures.BACKBONES)
    network = pictures.chosen(flags)
    one_of(flags, ("labels", "tfds"), "kinds of data")
    if "single" in flags and "labels" not in flags:
        raise ValueError("config argument 'single' is for labels in files: add labels")
    if network and "small" in flags:
        raise ValueError(f"config argument 'small' is a network of its own: leave out {network}")
    config = base_config()
    config.data = {
        "name": "image_folder",
        # 0: as many as there are class folders; another number is checked against them.
        "num_classes": 0,
        "path": "data",
        "image_size": 224,
        "channels": 3,
        "in_memory": False,
        "augmentation": "flip_crop",
        "antialias": False,
        "num_workers": -1,
        "on_bad_example": "raise",
        "last_batch": "drop",
    }
    if not flags & {"tfds", "labels"}:
        config.data.update(pictures.LAYOUT)
    if "tfds" in flags:
        config.data.update(name="tfds", dataset="oxford_flowers102", train_split="train", eval_split="test")
        config.data.update(image_key="image", label_key="label")
    config.head = head(sizes)
    if "labels" in flags:
        config.data.update(name="labelled_images", **LABELS, single_label="single" in flags)
        if "single" not in flags:
            # Codes of a warm-up are of one class an example.
            config.head, small_codes = heads.MANY_LABELS[config.head.name](sizes), None
    if "small" in flags:
        config.data.update(
            image_size=32, channels=0, in_memory=True, augmentation="auto", antialias=True, num_workers=0
        )
        config.data.update(mean=(0.5,), std=(0.5,))
        config.global_batch_size = 0
        config.codes = dict(small_codes or config.codes)
        recipe = glyphs.recipe()
    else:
        recipe = {
            "backbone": {"name": "resnet", "depth": 50, "bn_groups": 1},
            "optimizer": {
                "name": "sgd",
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 5e-5,
                "decay_all": False,
                "head_rate": 1.0,
                "backbone_rate": 1.0,
                "layer_decay": 1.0,
                "unfreeze_steps": (),
            },
            "schedule": {
                "name": "cosine",
                "learning_rate": 0.1,
                "end_learning_rate": 0.0,
                "warmup_epochs": 5.0,
                "per_epoch": False,
            },
            "total_epochs": 100.0,
            "dtype": "bfloat16",
        }
    if network:
        recipe = {**pictures.fine_tuning(network), "dtype": "bfloat16"}
    config.update(recipe)
    if "augment" in flags:
        config.augment = dict(pictures.OWN_AUGMENTATION)
    if "smoke" in flags:
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 8, 1
        config.data.num_workers = 0
        if "small" in flags and small_codes:
            config.codes.epochs = 1e-6  # a step
        if "small" not in flags:
            config.data.image_size, config.dtype = 64, "float32"
            config.backbone.update(pictures.FEWER_LAYERS[config.backbone.name])
    return config
