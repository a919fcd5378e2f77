"""Data sets of images, faces and texts, and the feeds that turn them into batches; knows files, knows no model.

`DATA` and `build_data` are imported when they are first used: processes that only decode pictures do without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mhe_jax.data.build import DATA as DATA
    from mhe_jax.data.build import build_data as build_data

__all__ = ["DATA", "build_data"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mhe_jax.data' has no attribute {name!r}")
    value = getattr(importlib.import_module("mhe_jax.data.build"), name)
    globals()[name] = value
    return value
