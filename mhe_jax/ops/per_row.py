"""Operations on rows that are split over devices, each device doing its own.

XLA's partitioner has no rule for a top-k along one axis of an array that is split along another: it gathers all rows on
every device first.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export, lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from mhe_jax.ops import mapped

_USUAL_ROWS = 64


def axis_size(axis: str) -> int:
    """Devices along an axis of the ambient mesh (`jax.set_mesh`); 1 where there is none."""
    return jax.sharding.get_abstract_mesh().shape.get(axis, 1)


def expected(rows: Any) -> int:
    """How many rows to plan memory for: `rows`, or some where a program for any number of them is traced.

    That is where a shape is symbolic, see `jax.export.symbolic_shape`.
    """
    return _USUAL_ROWS if export.is_symbolic_dim(rows) else rows


def top_k(x: Float[Array, "batch n"], k: int) -> tuple[Float[Array, "batch {k}"], Int[Array, "batch {k}"]]:
    """`jax.lax.top_k` of rows [B, n] -> values and places [B, k], each device taking those rows it holds.

    Without an ambient mesh that has both axes, or where the rows do not divide over it, the plain operation. What is no
    number counts as -inf: the plain operation puts it first, also where it stands in a place that is nothing's.

    Args:
      x: float [B, n].
      k: how many, at most n.
    """
    return on_own_rows(lambda x: tuple(lax.top_k(jnp.where(jnp.isnan(x), -jnp.inf, x), k)), x)


def on_own_rows(function: Callable, *arrays: jax.Array, axes: tuple[str, ...] = ("data", "class")) -> Any:
    """`function` of arrays [B, ...], with results [B, ...], each device calling it with those rows it holds.

    Without an ambient mesh that has the axes, or where the rows do not divide over it, a plain call.
    """
    shards = math.prod(map(axis_size, axes))
    if shards == 1 or arrays[0].shape[0] % shards:
        return function(*arrays)
    return mapped.shard_map(function, in_specs=P(axes), out_specs=P(axes))(*arrays)
