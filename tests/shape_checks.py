"""Shapes and dtypes in signatures are checked at each call while the tests run, and cost nothing outside of them.

Only what has an array in its signature: a mistake in any other argument has a message of its own, which tests read.
"""

import inspect
from collections.abc import Callable

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# Packages whose signatures carry shapes.
CHECKED = ("mhe_jax.heads", "mhe_jax.labels", "mhe_jax.ops")

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for any type checker


def check(function: Callable) -> Callable:
    """Decorates what takes or returns arrays of stated shapes."""
    if inspect.isclass(function):
        return function
    stated = "jaxtyping" in repr(list(inspect.get_annotations(function).values()))
    return _beartype(function) if stated else function


def install() -> None:
    """For modules that are imported from now on."""
    install_import_hook(CHECKED, f"{__name__}.check")
