"""Logits of whole blocks of classes and of single ones, with one gradient for the table that both are taken from.

A cascade scores the children of the nodes it kept, and beside them the few true classes whose parents it did not keep.
Two gathers would have two gradients, each as large as the table. Here one backward pass adds both into one; and it
gathers the rows anew, for a few examples at a time, so that neither they nor their gradients are ever all in memory.

Inside `jax.shard_map`, table and queries must vary over the same mesh axes (`jax.lax.pcast`).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32, Int

from mhe_jax.ops.candidates import dense_is_cheaper

_GATHERED_FLOATS = 2**22  # at most 16 MiB of rows at a time, or one example's: caches like it small


def candidate_logits(
    table: Float[Array, "blocks size dim"],
    queries: Float[Array, "batch dim"],
    block_ids: Int[Array, "batch kept"],
    row_ids: Int[Array, "batch rows"],
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

    Returns:
      float32 [B, K, n] and [B, R].
    """
    num_blocks, size, dim = table.shape
    width = block_ids.shape[1]
    if dense_is_cheaper(num_blocks, width, dim):
        dense = jnp.einsum("bd,pnd->bpn", queries, table.astype(queries.dtype), preferred_element_type=jnp.float32)
        blocks = jnp.take_along_axis(dense, jnp.clip(block_ids, 0, num_blocks - 1)[:, :, None], axis=1)
        dense = dense.reshape(dense.shape[0], -1)
        rows = jnp.take_along_axis(dense, jnp.clip(row_ids, 0, dense.shape[1] - 1), axis=1)
        blocks = jnp.where(_inside(block_ids, num_blocks)[:, :, None], blocks, 0.0)
        return blocks, jnp.where(_inside(row_ids, num_blocks * size), rows, 0.0)

    batch = queries.shape[0]
    examples = max(1, _GATHERED_FLOATS // ((width * size + row_ids.shape[1]) * dim))
    chunks = -(-batch // examples)
    cut = lambda x, fill: _cut(x, chunks, fill)
    blocks, rows = _gathered(table, cut(queries, 0), cut(block_ids, -1), cut(row_ids, -1))
    join = lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[:batch]
    return join(blocks), join(rows)


def _inside(ids, bound):
    return (ids >= 0) & (ids < bound)


def _cut(x, chunks, fill):
    """[B, ...] -> [chunks, examples, ...], filled up."""
    examples = -(-x.shape[0] // chunks)
    missing = [(0, chunks * examples - x.shape[0]), *[(0, 0)] * (x.ndim - 1)]
    return jnp.pad(x, missing, constant_values=fill).reshape(chunks, examples, *x.shape[1:])


@jax.custom_vjp
def _gathered(table, queries, block_ids, row_ids):
    """`candidate_logits` of examples in chunks: [chunks, c, D] and ids [chunks, c, ...] -> [chunks, c, ...]."""

    def step(_, chunk):
        queries, block_ids, row_ids = chunk
        blocks, rows = _rows(table, block_ids, row_ids, queries.dtype)
        block_logits = jnp.einsum("bd,bknd->bkn", queries, blocks, preferred_element_type=jnp.float32)
        return None, (block_logits, jnp.einsum("bd,brd->br", queries, rows, preferred_element_type=jnp.float32))

    return lax.scan(step, None, (queries, block_ids, row_ids))[1]


def _rows(table, block_ids, row_ids, dtype):
    """Blocks [c, K, n, D] and rows [c, R, D]; zeros for ids outside."""
    num_blocks, size, dim = table.shape
    blocks = jnp.take(table, _or_outside(block_ids, num_blocks), axis=0, mode="fill", fill_value=0)
    flat = table.reshape(-1, dim)
    return blocks.astype(dtype), jnp.take(
        flat, _or_outside(row_ids, num_blocks * size), axis=0, mode="fill", fill_value=0
    ).astype(dtype)


def _or_outside(ids, bound):
    """Ids, and `bound` for those outside: a negative one would count from the end."""
    return jnp.where(_inside(ids, bound), ids, bound)


def _forward(table, queries, block_ids, row_ids):
    return _gathered(table, queries, block_ids, row_ids), (table, queries, block_ids, row_ids)


def _backward(residuals, cotangents):
    table, queries, block_ids, row_ids = residuals
    num_blocks, size, dim = table.shape
    dtype = queries.dtype

    def step(d_table, chunk):
        queries, block_ids, row_ids, d_blocks, d_rows = chunk
        blocks, rows = _rows(table, block_ids, row_ids, dtype)
        d_blocks, d_rows = d_blocks.astype(dtype), d_rows.astype(dtype)
        d_queries = jnp.einsum("bkn,bknd->bd", d_blocks, blocks, preferred_element_type=jnp.float32)
        d_queries += jnp.einsum("br,brd->bd", d_rows, rows, preferred_element_type=jnp.float32)
        outer = lambda x: jnp.einsum("b...,bd->b...d", x, queries, preferred_element_type=jnp.float32)
        d_table = d_table.at[_or_outside(block_ids, num_blocks)].add(outer(d_blocks), mode="drop")
        if row_ids.shape[1]:
            row_ids = _or_outside(row_ids, num_blocks * size)
            d_table = d_table.reshape(-1, dim).at[row_ids].add(outer(d_rows), mode="drop").reshape(d_table.shape)
        return d_table, d_queries

    zeros = jnp.zeros_like(table, jnp.float32)
    d_table, d_queries = lax.scan(step, zeros, (queries, block_ids, row_ids, *cotangents))
    return d_table.astype(table.dtype), d_queries.astype(dtype), None, None


_gathered.defvjp(_forward, _backward)
