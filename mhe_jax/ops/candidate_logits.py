"""Logits of whole blocks of classes and of single ones, with one gradient for the table that both are taken from.

A cascade scores the children of the nodes it kept, and beside them the few true classes whose parents it did not keep.
Two gathers would have two gradients, each as large as the table. Here one backward pass adds both into one; and it
gathers the rows anew, so that neither they nor their gradients are ever all in memory.

Inside `jax.shard_map`, table and queries must vary over the same mesh axes (`jax.lax.pcast`).
"""

import functools

import jax
import jax.numpy as jnp
from jax import export, lax
from jaxtyping import Array, Float, Float32, Int

from mhe_jax.ops.candidates import dense_is_cheaper
from mhe_jax.ops.lengths import inverse_lengths, safe_normalize
from mhe_jax.ops.products import product
from mhe_jax.ops.storage import Scaled

_FEW = 8
_DENSE_FLOATS = 2**26  # at most 256 MiB of products with all rows at a time
_GATHERED_FLOATS = 2**22  # at most 16 MiB of rows at a time, or one example's: caches like it small


def block_logits(
    table: Float[Array, "blocks size dim"] | Scaled,
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
    table: Float[Array, "blocks size dim"] | Scaled,
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
      table: float [P, n, D], or of scaled rows, see `mhe_jax.ops.storage`.
      queries: float [B, D].
      block_ids: int [B, K] into P; the logits of an id outside are 0.
      row_ids: int [B, R] into P * n, the blocks' rows counted through; likewise. R may be 0.
      unit_rows: whether rows are divided by their norms first, so that unit queries give cosines; zero rows stay zero.

    Returns:
      float32 [B, K, n] and [B, R].
    """
    if not isinstance(table, Scaled):
        return _of_numbers(table, queries, block_ids, row_ids, unit_rows)
    found = _of_numbers(table.values, queries, block_ids, row_ids, unit_rows)
    if unit_rows:
        return found
    ones = jnp.ones_like(queries[:, :1], jnp.float32)
    scales = _of_numbers(table.scales[:, :, None], ones, block_ids, row_ids, False)
    return found[0] * scales[0], found[1] * scales[1]


def _of_numbers(table, queries, block_ids, row_ids, unit_rows):
    num_blocks, size, dim = table.shape
    width = block_ids.shape[1]
    if dense_is_cheaper(num_blocks, width, dim):
        batch, table = queries.shape[0], (table, inverse_lengths(table) if unit_rows else None)
        if export.is_symbolic_dim(batch) or batch * num_blocks * size <= _DENSE_FLOATS:
            return _chosen(None, table, queries, block_ids, row_ids)[1]
        count = max(1, _DENSE_FLOATS // (num_blocks * size))
        return _in_chunks(_chosen, count, None, table, queries, block_ids, row_ids)[1]

    blocks, rows = _gathered(unit_rows, table, queries, block_ids, row_ids)
    return blocks, rows[:, :, 0]


def _chosen(nothing, table, queries, block_ids, row_ids):
    """From the products with all rows, which are divided by the rows' lengths where these are given."""
    rows, inverse = table
    num_blocks, size, _ = rows.shape
    dense = product("bd,pnd->bpn", queries, rows)
    block_places, row_places = jnp.clip(block_ids, 0, num_blocks - 1), jnp.clip(row_ids, 0, num_blocks * size - 1)
    blocks = jnp.take_along_axis(dense, block_places[:, :, None], axis=1)
    rows = jnp.take_along_axis(dense.reshape(dense.shape[0], -1), row_places, axis=1)
    if inverse is not None:  # of those chosen: the others need not be kept for the backward pass
        blocks, rows = blocks * inverse[block_places], rows * inverse.reshape(-1)[row_places]
    blocks = jnp.where(_inside(block_ids, num_blocks)[:, :, None], blocks, 0.0)
    return nothing, (blocks, jnp.where(_inside(row_ids, num_blocks * size), rows, 0.0))


def _scaled(rows, unit_rows):
    return safe_normalize(rows)[0] if unit_rows else rows


def _inside(ids, bound):
    return (ids >= 0) & (ids < bound)


def _by_platform(function, carry, table, *examples):
    """`function(carry, table, *examples)`, a carry and results [B, ...], as the device does it with the least memory.

    XLA's compiler for NVIDIA's GPUs gathers rows where it multiplies them, and adds their gradients where the optimizer
    keeps its trace: no gathered row is ever in memory, if each product is that of one vector. Others gather first: all
    rows where they are few beside the table, and else those of a few examples at a time, in a loop whose running
    gradient is as large as the table. A program for any number of examples gathers first, too.
    """
    block_ids = examples[1]
    if export.is_symbolic_dim(block_ids.shape[0]) or _FEW * block_ids.size <= table.shape[0]:
        return function(carry, table, *examples)
    (size, dim), width, singles = table.shape[1:], block_ids.shape[1], examples[2].shape[1]
    count = max(1, _GATHERED_FLOATS // ((width * size + singles) * dim))
    in_chunks = functools.partial(_in_chunks, function, count)
    return lax.platform_dependent(carry, table, *examples, cuda=function, default=in_chunks)


def _in_chunks(function, count, carry, table, *examples):
    """The same for at most `count` examples at a time."""
    batch = examples[0].shape[0]
    chunks = -(-batch // count)
    count = -(-batch // chunks)

    def cut(x):
        """[B, ...] -> [chunks, examples, ...], filled up; ids with what is outside."""
        missing = [(0, chunks * count - batch), *[(0, 0)] * (x.ndim - 1)]
        fill = -1 if jnp.issubdtype(x.dtype, jnp.integer) else 0
        return jnp.pad(x, missing, constant_values=fill).reshape(chunks, count, *x.shape[1:])

    carry, results = lax.scan(lambda carry, chunk: function(carry, table, *chunk), carry, tuple(map(cut, examples)))
    return carry, jax.tree.map(lambda x: x.reshape(chunks * count, *x.shape[2:])[:batch], results)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered(unit_rows, table, queries, block_ids, row_ids):
    """`candidate_logits` by gathers: float32 [B, K, n] and [B, R, 1]."""

    def score(nothing, table, queries, block_ids, row_ids):
        return nothing, tuple(
            _scores(unit_rows, *operands, queries) for operands in ((table, block_ids), (_single(table), row_ids))
        )

    return _by_platform(score, None, table, queries, block_ids, row_ids)[1]


def _single(table):
    """Each row as a block: [P, n, D] -> [P * n, 1, D]."""
    return table.reshape(-1, 1, table.shape[2])


def _scores(unit_rows, table, ids, queries):
    """Products of each query [B, D] with its blocks [B, K] of a table [P, n, D]: float32 [B, K, n]."""
    rows = _scaled(_rows(table, ids), unit_rows).astype(queries.dtype)
    logits = jnp.einsum("pd,pnd->pn", _repeated(queries, ids), rows, preferred_element_type=jnp.float32)
    return logits.reshape(*ids.shape, table.shape[1])


def _gradients(unit_rows, d_table, table, ids, queries, d_logits):
    """`d_table` with the gradients of the rows added, and those of the queries, float32."""
    rows, vjp = jax.vjp(lambda rows: _scaled(rows, unit_rows), _rows(table, ids))
    low = d_logits.reshape(ids.size, table.shape[1]).astype(queries.dtype)
    products = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    d_queries = products("pn,pnd->pd", low, rows.astype(queries.dtype)).reshape(*ids.shape, table.shape[2]).sum(axis=1)
    (d_rows,) = vjp(products("pn,pd->pnd", low, _repeated(queries, ids)).astype(rows.dtype))
    places = _or_outside(ids, table.shape[0]).reshape(-1)
    return d_table.at[places].add(d_rows.astype(jnp.float32), mode="drop"), d_queries


def _repeated(queries, ids):
    """A query for each id: [B, D], [B, K] -> [B * K, D]."""
    return jnp.broadcast_to(queries[:, None], (*ids.shape, queries.shape[1])).reshape(ids.size, queries.shape[1])


def _rows(table, ids):
    """Blocks [B * K, n, D]; zeros for ids outside."""
    ids = _or_outside(ids, table.shape[0]).reshape(-1)
    return jnp.take(table, ids, axis=0, mode="fill", fill_value=0)


def _or_outside(ids, bound):
    """Ids, and `bound` for those outside: a negative one would count from the end."""
    return jnp.where(_inside(ids, bound), ids, bound)


def _forward(unit_rows, table, queries, block_ids, row_ids):
    return _gathered(unit_rows, table, queries, block_ids, row_ids), (table, queries, block_ids, row_ids)


def _backward(unit_rows, residuals, cotangents):
    table, queries, block_ids, row_ids = residuals

    def add(d_table, table, queries, block_ids, row_ids, d_blocks, d_rows):
        d_table, d_queries = _gradients(unit_rows, d_table, table, block_ids, queries, d_blocks)
        if row_ids.shape[1]:
            of_rows = _single(d_table), _single(table)
            d_single, more = _gradients(unit_rows, *of_rows, row_ids, queries, d_rows)
            d_table, d_queries = d_single.reshape(table.shape), d_queries + more
        return d_table, d_queries.astype(queries.dtype)

    zeros = jnp.zeros_like(table, jnp.float32)
    d_table, d_queries = _by_platform(add, zeros, table, queries, block_ids, row_ids, *cotangents)
    return d_table.astype(table.dtype), d_queries, None, None


_gathered.defvjp(_forward, _backward)
