"""What each device does with its own part of arrays, compiled whole wherever it is called."""

from collections.abc import Callable
from typing import Any

import jax


def shard_map(function: Callable, *, in_specs: Any, out_specs: Any) -> Callable:
    """`jax.shard_map` on the ambient mesh.

    Inside a jitted function it is the same, to the instruction. Outside of one, as in `head.init(...)`, JAX would
    compile each operation of `function` for all devices on its own: ten times as long as all of them together.
    """
    mapped = jax.shard_map(function, in_specs=in_specs, out_specs=out_specs)
    whole = jax.jit(mapped)

    def call(*arguments):
        is_traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))
        return mapped(*arguments) if is_traced else whole(*arguments)

    return call
