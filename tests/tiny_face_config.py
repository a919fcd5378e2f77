"""A run on faces of seconds, for tests of the command line: 19 identities of 8 x 8 pictures."""

from mhe_jax.recipes import heads
from mhe_jax.recipes.base import base_config


def get_config():
    config = base_config()
    config.data = {
        "name": "face_synthetic",
        "num_classes": 19,
        "image_shape": (8, 8, 3),
        "num_examples": 100,
        "num_pairs": 20,
        "last_batch": "drop",
    }
    config.backbone = {"name": "convnet", "features_dim": 8, "widths": (8,), "activate_features": False}
    config.head = {**heads.face_ohe(), "margin": heads.margin("arcface", scale=16.0, m=0.2)}
    config.optimizer = {"name": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4, "decay_all": False}
    config.schedule = {"name": "constant", "learning_rate": 0.02, "warmup_epochs": 0.0, "per_epoch": False}
    config.total_steps = 6
    config.global_batch_size = 24
    config.log_every_steps = 1
    config.checkpoint_every_steps = 2
    return config
