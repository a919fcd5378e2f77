"""The config that every file in `configs/` starts from."""

from ml_collections import ConfigDict

from mhe_jax.settings import defaults


def base_config() -> ConfigDict:
    """A config with every top-level field at its default, to be completed by the files in `configs/`."""
    return ConfigDict(
        {**{section: {} for section in ("data", "backbone", "head", "optimizer", "schedule")}, **defaults()}
    )


def adamw(weight_decay):
    """AdamW for what is trained from random values, by config field; biases and normalisations are not decayed."""
    return {
        "name": "adamw",
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "weight_decay": weight_decay,
        "decay_all": False,
        "head_rate": 1.0,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "unfreeze_steps": (),
    }
