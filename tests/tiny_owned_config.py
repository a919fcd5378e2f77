"""A run of seconds whose one-hot table is moved by its own loss: 8 x 8 pictures of 19 classes."""

from mhe_jax.recipes import heads
from tests import tiny_config


def get_config():
    config = tiny_config.get_config()
    config.head = heads.ohe()
    config.table_optimizer = {**heads.OWNED_TABLES, "storage": "float32", "rate": 2.0}
    return config
