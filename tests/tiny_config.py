"""A run of seconds, for tests of the command line: 8 x 8 pictures of 19 classes."""

from mhe_jax.recipes import heads
from mhe_jax.recipes.base import base_config


def get_config():
    config = base_config()
    config.data = {
        "name": "synthetic",
        "num_classes": 19,
        "image_shape": (8, 8, 1),
        "num_examples": 100,
        "num_eval_examples": 43,
        "last_batch": "drop",
    }
    config.backbone = {"name": "convnet", "features_dim": 16, "widths": (8,)}
    config.head = heads.mhp((4, 5))
    config.optimizer = {"name": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4, "decay_all": False}
    config.schedule = {"name": "constant", "learning_rate": 0.05, "warmup_epochs": 0.0}
    config.total_steps = 6
    config.global_batch_size = 32
    config.log_every_steps = 1
    config.eval_every_steps = config.checkpoint_every_steps = 3
    return config
