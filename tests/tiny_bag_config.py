"""A run on sparse features of seconds, for tests: 9 labels; `data.path` is to be set."""

from mhe_jax.recipes import bag


def get_config(arg="", head="mhc"):
    config = bag.make(head, arg)
    config.head.head_sizes = () if head == "ohe" else (4, 3)
    config.codes = {"name": "identity", "path": "", "epochs": 2.0}
    config.data.valid_examples, config.data.bucket_lengths = 0.0, (4, 8)
    config.backbone.features_dim = 16
    config.total_steps, config.global_batch_size, config.log_every_steps = 12, 16, 4
    config.eval_every_steps = config.checkpoint_every_steps = 6
    return config
