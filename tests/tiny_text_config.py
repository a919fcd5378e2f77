"""A run on texts of seconds, for tests of the command line: 53 labels, a small encoder."""

from mhe_jax.recipes import heads
from mhe_jax.recipes.base import base_config


def get_config():
    config = base_config()
    config.data = {
        "name": "synthetic_text",
        "num_classes": 53,
        "vocab_size": 97,
        "num_examples": 100,
        "num_eval_examples": 43,
        "labels_per_example": 3,
        "lengths": (4, 16),
        "max_length": 16,
        "bucket_lengths": (8,),
        "sort_window": 2,
    }
    config.backbone = {
        "name": "bert",
        "vocab_size": 0,
        "hidden_size": 16,
        "num_layers": 1,
        "num_heads": 2,
        "intermediate_size": 32,
        "max_positions": 16,
        "hidden_dropout": 0.1,
        "attention_dropout": 0.0,
        "pooling": "mean",
        "feature_layers": 1,
        "feature_dropout": 0.5,
    }
    config.head = {**heads.xmc_mhc((11, 5)), "num_candidates": 4, "hidden_dim": 8}
    config.optimizer = {"name": "adamw"}
    config.schedule = {"name": "constant", "learning_rate": 0.01}
    config.total_steps, config.global_batch_size, config.log_every_steps = 6, 16, 2
    config.eval_every_steps = config.checkpoint_every_steps = 3
    config.steps_per_dispatch = 1
    return config
