"""Logits of whole blocks of classes and of single ones, with one gradient for the table that both are taken from.

A cascade scores the children of the nodes it kept, and beside them the few true classes whose parents it did not keep.
Two gathers would have two gradients, each as large as the table. Here one backward pass adds both into one; and it
gathers the rows anew, for a few examples at a time, so that neither they nor their gradients are ever all in memory.

Inside `jax.shard_map`, table and queries must vary over the same mesh axes (`jax.lax.pcast`).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32, Int

from mhe_jax.ops.candidates import dense_is_cheaper
from mhe_jax.ops.margins import safe_normalize
from mhe_jax.ops.products import product

_GATHERED_FLOATS = 2**22  # at most 16 MiB of rows at a time, or one example's: caches like it small


def block_logits(
    table: Float[Array, "blocks size dim"],
    queries: Float[Array, "batch dim"],
    block_ids: Int[Array, "batch width"],
    unit_rows: bool = False,
) -> Float32[Array, "batch width size"]:
    """`candidate_logits` of blocks alone.

    >>> table = jnp.arange(6.0).reshape(3, 2, 1)
    >>> block_logits(table, jnp.ones((1, 1)), jnp.array([[2, 0]])).tolist()
    [[[4.0, 5.0], [0.0, 1.0]]]
    """
    return candidate_logits(table, queries, block_ids, block_ids[:, :0], unit_rows)[0]


def candidate_logits(
    table: Float[Array, "blocks size dim"],
    queries: Float[Array, "batch dim"],
    block_ids: Int[Array, "batch kept"],
    row_ids: Int[Array, "batch rows"],
    unit_rows: bool = False,
) -> tuple[Float32[Array, "batch kept size"], Float32[Array, "batch rows"]]:
    """Inner products of each query with the rows of its own blocks, and with its own rows.

    >>> table = jnp.arange(6.0).reshape(3, 2, 1)
    >>> blocks, rows = candidate_logits(table, jnp.ones((1, 1)), jnp.array([[2, 0]]), jnp.array([[3]]))
    >>> blocks.tolist(), rows.tolist()
    ([[[4.0, 5.0], [0.0, 1.0]]], [[3.0]])

    Products run in the dtype of `queries` and accumulate in float32.

    Args:
      table: float [P, n, D].
      queries: float [B, D].
      block_ids: int [B, K] into P; the logits of an id outside are 0.
      row_ids: int [B, R] into P * n, the blocks' rows counted through; likewise. R may be 0.
      unit_rows: whether rows are divided by their norms first, so that unit queries give cosines; zero rows stay zero.

    Returns:
      float32 [B, K, n] and [B, R].
    """
    num_blocks, size, dim = table.shape
    width = block_ids.shape[1]
    if dense_is_cheaper(num_blocks, width, dim):
        dense = product("bd,pnd->bpn", queries, _scaled(table, unit_rows))
        blocks = jnp.take_along_axis(dense, jnp.clip(block_ids, 0, num_blocks - 1)[:, :, None], axis=1)
        dense = dense.reshape(dense.shape[0], -1)
        rows = jnp.take_along_axis(dense, jnp.clip(row_ids, 0, dense.shape[1] - 1), axis=1)
        blocks = jnp.where(_inside(block_ids, num_blocks)[:, :, None], blocks, 0.0)
        return blocks, jnp.where(_inside(row_ids, num_blocks * size), rows, 0.0)

    batch = queries.shape[0]
    examples = max(1, _GATHERED_FLOATS // ((width * size + row_ids.shape[1]) * dim))
    chunks = -(-batch // examples)
    cut = lambda x, fill: _cut(x, chunks, fill)
    blocks, rows = _gathered(unit_rows, table, cut(queries, 0), cut(block_ids, -1), cut(row_ids, -1))
    join = lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[:batch]
    return join(blocks), join(rows)


def _scaled(rows, unit_rows):
    return safe_normalize(rows)[0] if unit_rows else rows


def _inside(ids, bound):
    return (ids >= 0) & (ids < bound)


def _cut(x, chunks, fill):
    """[B, ...] -> [chunks, examples, ...], filled up."""
    examples = -(-x.shape[0] // chunks)
    missing = [(0, chunks * examples - x.shape[0]), *[(0, 0)] * (x.ndim - 1)]
    return jnp.pad(x, missing, constant_values=fill).reshape(chunks, examples, *x.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered(unit_rows, table, queries, block_ids, row_ids):
    """`candidate_logits` of examples in chunks: [chunks, c, D] and ids [chunks, c, ...] -> [chunks, c, ...]."""

    def step(_, chunk):
        queries, block_ids, row_ids = chunk
        return None, _products(unit_rows, queries, *_rows(table, block_ids, row_ids))

    return lax.scan(step, None, (queries, block_ids, row_ids))[1]


def _products(unit_rows, queries, blocks, rows):
    """Logits [c, K, n] and [c, R] of queries [c, D] with blocks [c, K, n, D] and rows [c, R, D]."""
    blocks, rows = _scaled(blocks, unit_rows), _scaled(rows, unit_rows)
    return product("bd,bknd->bkn", queries, blocks), product("bd,brd->br", queries, rows)


def _rows(table, block_ids, row_ids):
    """Blocks [c, K, n, D] and rows [c, R, D]; zeros for ids outside."""
    num_blocks, size, dim = table.shape
    take = lambda rows, ids: jnp.take(rows, _or_outside(ids, rows.shape[0]), axis=0, mode="fill", fill_value=0)
    return take(table, block_ids), take(table.reshape(-1, dim), row_ids)


def _or_outside(ids, bound):
    """Ids, and `bound` for those outside: a negative one would count from the end."""
    return jnp.where(_inside(ids, bound), ids, bound)


def _forward(unit_rows, table, queries, block_ids, row_ids):
    return _gathered(unit_rows, table, queries, block_ids, row_ids), (table, queries, block_ids, row_ids)


def _backward(unit_rows, residuals, cotangents):
    table, queries, block_ids, row_ids = residuals
    num_blocks, size, dim = table.shape

    def step(d_table, chunk):
        queries, block_ids, row_ids, *d_logits = chunk
        _, vjp = jax.vjp(functools.partial(_products, unit_rows), queries, *_rows(table, block_ids, row_ids))
        d_queries, d_blocks, d_rows = vjp(tuple(d_logits))
        d_table = d_table.at[_or_outside(block_ids, num_blocks)].add(d_blocks, mode="drop")
        if row_ids.shape[1]:
            row_ids = _or_outside(row_ids, num_blocks * size)
            d_table = d_table.reshape(-1, dim).at[row_ids].add(d_rows, mode="drop").reshape(d_table.shape)
        return d_table, d_queries

    zeros = jnp.zeros_like(table, jnp.float32)
    d_table, d_queries = lax.scan(step, zeros, (queries, block_ids, row_ids, *cotangents))
    return d_table.astype(table.dtype), d_queries, None, None


_gathered.defvjp(_forward, _backward)
