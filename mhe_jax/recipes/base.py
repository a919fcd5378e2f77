"""The config that every file in `configs/` starts from."""

import dataclasses

from ml_collections import ConfigDict

from mhe_jax.settings import Settings


def base_config() -> ConfigDict:
    """A config with every top-level field at its default, to be completed by the files in `configs/`."""
    config = ConfigDict({section: {} for section in ("data", "backbone", "head", "optimizer", "schedule")})
    config.average = {"name": "none"}
    for field in dataclasses.fields(Settings):
        if field.default is not dataclasses.MISSING:
            config[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            config[field.name] = field.default_factory()
    return config
