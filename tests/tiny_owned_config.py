"""A run of seconds whose one-hot table is moved by its own loss: 8 x 8 pictures of 19 classes."""

from mhe_jax.recipes import heads
from tests import tiny_config


def get_config():
    config = tiny_config.get_config()
    config.head = heads.ohe()
    config.table_optimizer = {**heads.OWNED_ADAMW, "storage": "float32", "moments": "float32"}
    return config
