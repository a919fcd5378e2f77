"""The config that every file in `configs/` starts from."""

from ml_collections import ConfigDict

from mhe_jax.settings import defaults


def base_config() -> ConfigDict:
    """A config with every top-level field at its default, to be completed by the files in `configs/`."""
    return ConfigDict(
        {**{section: {} for section in ("data", "backbone", "head", "optimizer", "schedule")}, **defaults()}
    )
