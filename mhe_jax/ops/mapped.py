"""What each device does with its own part of arrays, compiled whole wherever it is called."""

from collections.abc import Callable
from typing import Any

import jax


def shard_map(function: Callable, *, in_specs: Any, out_specs: Any) -> Callable:
    """`jax.shard_map` on the ambient mesh.

    Inside a jitted function it is the same, to the instruction. Outside of one, as in `head.init(...)`, JAX would
    compile each operation of `function` for all devices on its own: ten times as long as all of them together.
    """
    return jax.jit(jax.shard_map(function, in_specs=in_specs, out_specs=out_specs), inline=True)
