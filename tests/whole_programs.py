"""Flax's `init` and `apply` as one program each while the tests run, wherever a test calls them outside of `jax.jit`.

Outside of jit JAX compiles each operation for itself, some forty milliseconds for every new shape: a head's `init` and
`apply` would be a hundred programs, and together they would take half of the time of all tests.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

ARRAYS = jax.Array, np.ndarray, np.generic
PLACE = object()  # of an array among the arguments
# What says that the Python code wants values, or that an argument has no hash: it is then called as it is, and raises a
# mistake of its own once more.
WANTS_VALUES = jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError, TypeError


def install() -> None:
    """For all modules, from now on."""
    nn.Module.init = _whole(nn.Module.init)
    nn.Module.apply = _whole(nn.Module.apply)


class _Other(Exception):
    """A result that no program can have."""


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(method: Callable, treedef: Any, others: tuple, arrays: list) -> Any:
    given = iter(arrays)
    leaves = [next(given) if other is PLACE else other for other in others]
    module, arguments, named = jax.tree.unflatten(treedef, leaves)
    result = method(module, *arguments, **named)
    if not all(isinstance(leaf, ARRAYS) for leaf in jax.tree.leaves(result)):
        raise _Other
    return result


def _whole(method: Callable) -> Callable:
    @functools.wraps(method)
    def call(module, *arguments, **named):
        leaves, treedef = jax.tree.flatten((module, arguments, named))
        arrays = [leaf for leaf in leaves if isinstance(leaf, ARRAYS)]
        others = tuple(PLACE if isinstance(leaf, ARRAYS) else leaf for leaf in leaves)
        if module.scope is not None or not arrays or any(isinstance(leaf, jax.core.Tracer) for leaf in arrays):
            return method(module, *arguments, **named)
        try:
            hash(others)
            return _run(method, treedef, others, arrays)
        except (_Other, *WANTS_VALUES):
            return method(module, *arguments, **named)

    return call
