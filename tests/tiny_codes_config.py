"""A run of seconds whose cascade finds its codes in a warm-up: 8 x 8 pictures of 19 classes."""

from mhe_jax.recipes import heads
from tests import tiny_config


def get_config():
    config = tiny_config.get_config()
    config.head = heads.mhc((4, 5))
    config.codes = {**heads.WARM_UP, "epochs": 1.0}
    return config
