"""Shapes and dtypes in signatures are checked at each call while the tests run, and cost nothing outside of them.

Only what has an array in its signature: a mistake in any other argument has a message of its own, which tests read. A
NumPy array is taken where one of JAX is asked for, as JAX takes it.
"""

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, install_import_hook

# Packages whose signatures carry shapes.
CHECKED = ("mhe_jax.heads", "mhe_jax.labels", "mhe_jax.ops")

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for any type checker


def check(function: Callable) -> Callable:
    """Decorates what takes or returns arrays of stated shapes."""
    stated = {} if inspect.isclass(function) else inspect.get_annotations(function)
    if "jaxtyping" not in repr(list(stated.values())):
        return function
    function.__annotations__ = {name: hint if name == "return" else _or_numpy(hint) for name, hint in stated.items()}
    return _beartype(function)


def install() -> None:
    """For modules that are imported from now on."""
    install_import_hook(CHECKED, f"{__name__}.check")


def _or_numpy(hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return hint.dtype[hint.array_type | np.ndarray, hint.dim_str]
    parts = tuple(map(_or_numpy, typing.get_args(hint)))
    if not parts:
        return hint
    origin = typing.get_origin(hint)
    return typing.Union[parts] if origin in (typing.Union, types.UnionType) else origin[parts]  # noqa: UP007
