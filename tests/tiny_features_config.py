"""A run on features of seconds, for tests: 11 classes, or with `multilabel` labels; `data.path` is to be set."""

from mhe_jax.recipes import features


def get_config(arg="", head="mhc"):
    config = features.make(head, arg)
    config.head.head_sizes = () if head == "ohe" else (4, 3)
    config.codes = {"name": "identity", "path": "", "epochs": 2.0}
    config.total_steps, config.global_batch_size, config.log_every_steps = 6, 16, 2
    config.eval_every_steps = config.checkpoint_every_steps = 3
    return config
