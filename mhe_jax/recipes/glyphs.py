"""What the glyph configs share: some 3,000 characters in twelve typefaces, two of them never trained on.

Sized for two CPU cores: a run takes some minutes.
"""

from mhe_jax.recipes.arguments import parse
from mhe_jax.recipes.base import adamw, base_config


def recipe():
    """A small network for small grey pictures and its optimisation, by config field."""
    return {
        "backbone": {"name": "convnet", "features_dim": 512, "widths": (32, 64, 128)},
        "optimizer": adamw(weight_decay=0.05),
        "schedule": {
            "name": "cosine",
            "learning_rate": 0.01,
            "end_learning_rate": 0.0,
            "warmup_epochs": 1.0,
            "per_epoch": False,
        },
        "total_epochs": 14.0,
        "eval_every_epochs": 2.0,
        "checkpoint_every_epochs": 2.0,
    }


def make(head, arg, codes=None):
    """The config of one head, perhaps with codes. Arguments: head sizes such as 56x56, `smoke`."""
    sizes, flags = parse(arg, "smoke")
    config = base_config()
    config.data = {
        "name": "glyphs",
        "num_classes": 0,
        "image_size": 32,
        "eval_faces": ("DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
        "augmentation": 0.5,
        "noise": 0.02,
        "last_batch": "drop",
    }
    config.head = head(sizes)
    config.update(recipe())
    config.codes = dict(codes or config.codes)
    if "smoke" in flags:
        config.total_steps, config.global_batch_size, config.log_every_steps = 2, 16, 1
        if codes:
            config.codes.epochs = 1e-6  # a step
    return config
