"""Cosines of features with a long table of classes, an example's own class apart from the others, block by block.

A margin changes the cosine of the own class alone, so a margin softmax needs two numbers of each example: that cosine,
and the log-sum-exp over the other classes. As in `chunked`, one block of cosines exists at a time in the forward and in
the backward pass; the rows are normalised block by block as well, so there is no normalised copy of the table.

Queries are the unit vectors of the features; products run in their dtype and accumulate in float32, norms are float32.
Inside `jax.shard_map`, queries and table must vary over the same mesh axes (`jax.lax.pcast`).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int

from mhe_jax.ops.chunked import add_rows, block_layout, zero_per_example
from mhe_jax.ops.margins import hard_negatives, safe_normalize
from mhe_jax.ops.products import product


class HardNegatives(NamedTuple):
    """What `margins.hard_negatives` needs of a batch; neither receives a gradient."""

    threshold: Any  # float32 [B]
    boost: Any  # float32 []

    def apply(self, cosines: jax.Array) -> jax.Array:
        """Cosines [B, ...] with other classes as they enter the softmax."""
        return hard_negatives(cosines, self.threshold.reshape(-1, *[1] * (cosines.ndim - 1)), self.boost)


def own_and_others(
    queries: Float[Array, "batch dim"],
    table: Float[Array, "classes dim"],
    labels: Int[Array, "batch"],
    mask: Bool[Array, "classes"],
    scale: float,
    hard: HardNegatives | None = None,
    block_size: int | None = None,
) -> tuple[Float32[Array, "batch"], Float32[Array, "batch"]]:
    """The cosine with the own class, and the log-sum-exp of `scale` times the cosines with the others.

    Args:
      queries: float [B, D], unit vectors (or zero).
      table: float [C, D]; a zero row has cosine 0 with everything.
      labels: int [B]; outside 0 .. C-1 the own cosine is 0, and all rows are others.
      mask: bool [C]; False rows are no classes.
      scale: factor of the cosines in the exponent.
      hard: how hard negatives are emphasised; None leaves them as they are.
      block_size: rows per block, as in `chunked.blocked_lse`.

    Returns:
      `(own [B], lse [B])`, float32; lse is -inf, with zero gradient, where there is no other class.
    """
    return _own_and_others(scale, block_size, queries, table, labels, mask, hard)


class Rows(NamedTuple):
    """Classes of some groups as one table."""

    table: jax.Array  # [K * n, D]
    labels: jax.Array  # int [B]: each label's row, or -1
    mask: jax.Array  # bool [K * n]: rows that are classes


def rows_of_groups(
    weight: Float[Array, "groups size dim"],
    groups: Int[Array, "groups"],
    live: Bool[Array, "groups"],
    labels: Int[Array, "batch"],
    num_codes: int,
) -> Rows:
    """The members of groups that have been gathered.

    Args:
      weight: float [K, n, D], the rows of each group.
      groups: int [K], non-decreasing; of equal ids the last is the group, if it is live.
      live: bool [K], False for places that hold no group.
      labels: int [B] codes, group * n + member; negative ones have no row.
      num_codes: members at or above are masked.
    """
    _, size, dim = weight.shape
    members = groups[:, None] * size + jnp.arange(size)[None, :]
    mask = live[:, None] & (members < num_codes)
    slots = jnp.clip(
        jnp.searchsorted(groups, labels // size, side="right", method="scan_unrolled") - 1, 0, groups.shape[0] - 1
    )
    found = (labels >= 0) & (groups[slots] == labels // size) & live[slots]
    return Rows(weight.reshape(-1, dim), jnp.where(found, slots * size + labels % size, -1), mask.reshape(-1))


def _cosines(queries, rows, hard: HardNegatives | None):
    """Cosines [B, n], and what stands for them among the others."""
    cosines = product("bd,cd->bc", queries, safe_normalize(rows)[0])
    return cosines, cosines if hard is None else hard.apply(cosines)


class _Block(NamedTuple):
    start: jax.Array  # id of the first row
    rows: jax.Array  # [size, D]
    own: jax.Array  # bool [B, size]: the row is the label's
    other: jax.Array  # bool [B, size]: the row is another class


def _block_at(index, size, table, labels, mask) -> _Block:
    """Block `index`; the last one is shifted back to end at the table's end, its rows seen before are left out."""
    start = jnp.minimum(index * size, table.shape[0] - size)
    ids = start + jnp.arange(size)
    own = (labels[:, None] == ids[None, :]) & (ids >= index * size)[None, :]
    live = (ids >= index * size) & lax.dynamic_slice_in_dim(mask, start, size)
    return _Block(start, lax.dynamic_slice_in_dim(table, start, size), own, live[None, :] & ~own)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _own_and_others(scale, block_size, queries, table, labels, mask, hard):
    size, count = block_layout(queries, table, block_size)

    def step(carry, index):
        own, lse = carry
        block = _block_at(index, size, table, labels, mask)
        cosines, shown = _cosines(queries, block.rows, hard)
        lse = jnp.logaddexp(lse, jax.nn.logsumexp(scale * shown, axis=1, where=block.other))
        return (own + jnp.where(block.own, cosines, 0.0).sum(axis=1), lse), None

    zero = zero_per_example(queries)
    return lax.scan(step, (zero, zero - jnp.inf), jnp.arange(count))[0]


def _forward(scale, block_size, queries, table, labels, mask, hard):
    out = _own_and_others(scale, block_size, queries, table, labels, mask, hard)
    return out, (queries, table, labels, mask, hard, out[1])


def _backward(scale, block_size, residuals, cotangents):
    queries, table, labels, mask, hard, lse = residuals
    d_own, d_lse = cotangents
    size, count = block_layout(queries, table, block_size)
    shift = jnp.where(lse == -jnp.inf, 0.0, lse)  # no other class: its terms are masked, and must not be NaN

    def step(carry, index):
        d_queries, d_table = carry
        block = _block_at(index, size, table, labels, mask)
        (_, shown), vjp = jax.vjp(lambda q, rows: _cosines(q, rows, hard), queries, block.rows)
        above = jnp.where(block.other, scale * shown, -jnp.inf) - shift[:, None]
        probabilities = jnp.exp(jnp.minimum(above, 0.0))  # above 0 by rounding only, see `chunked`
        d_more, d_rows = vjp((jnp.where(block.own, d_own[:, None], 0.0), d_lse[:, None] * scale * probabilities))
        return (d_queries + d_more.astype(jnp.float32), add_rows(d_table, block.start, d_rows)), None

    zeros = jnp.zeros_like(queries, jnp.float32), jnp.zeros_like(table, jnp.float32)
    (d_queries, d_table), _ = lax.scan(step, zeros, jnp.arange(count))
    nothing = jax.tree.map(jnp.zeros_like, hard)
    return d_queries.astype(queries.dtype), d_table.astype(table.dtype), None, None, nothing


_own_and_others.defvjp(_forward, _backward)
