"""Operations on rows that are split over devices, each device doing its own.

XLA's partitioner has no rule for a top-k along one axis of an array that is split along another: it gathers all rows on
every device first.
"""

import math

import jax
from jax import lax
from jax.sharding import PartitionSpec as P


def axis_size(axis: str) -> int:
    """Devices along an axis of the ambient mesh (`jax.set_mesh`); 1 where there is none."""
    return jax.sharding.get_abstract_mesh().shape.get(axis, 1)


def top_k(x: jax.Array, k: int, axes: tuple[str, ...] = ("data", "class")) -> tuple[jax.Array, jax.Array]:
    """`jax.lax.top_k` of rows [B, n] -> values and places [B, k], each device taking those rows it holds.

    Without an ambient mesh that has the axes, or where the rows do not divide over it, the plain operation.

    Args:
      x: float [B, n].
      k: how many, at most n.
      axes: mesh axes over which the rows are split.
    """
    shards = math.prod(map(axis_size, axes))
    if shards == 1 or x.shape[0] % shards:
        return lax.top_k(x, k)
    return jax.shard_map(lambda x: lax.top_k(x, k), in_specs=P(axes), out_specs=P(axes))(x)
