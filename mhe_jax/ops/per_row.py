"""Operations on rows that are split over devices, each device doing its own.

XLA's partitioner has no rule for a top-k along one axis of an array that is split along another: it gathers all rows on
every device first.
"""

import jax
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int


def top_k(
    x: Float[Array, "batch n"], k: int, axes: tuple[str, ...] = ("data", "class")
) -> tuple[Float[Array, "batch {k}"], Int[Array, "batch {k}"]]:
    """`jax.lax.top_k` of rows [B, n] -> values and places [B, k], each device taking those rows it holds.

    Without an ambient mesh that has the axes, or where the rows do not divide over it, the plain operation.

    Args:
      x: float [B, n].
      k: how many, at most n.
      axes: mesh axes over which the rows are split.
    """
    shape = jax.sharding.get_abstract_mesh().shape
    shards = 1
    for axis in axes:
        shards *= shape.get(axis, 1)
    if shards == 1 or x.shape[0] % shards:
        return lax.top_k(x, k)
    return jax.shard_map(lambda x: lax.top_k(x, k), in_specs=P(axes), out_specs=P(axes))(x)
