"""`candidate_logits` of a table that moves by its own gradient in the backward pass, see `mhe_jax.ops.owned`.

The blocks that no example uses stay as they are, and neither decay.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32, Int

from mhe_jax.ops import blocks, runs, storage
from mhe_jax.ops import candidate_logits as candidate_ops
from mhe_jax.ops import rows as row_ops
from mhe_jax.ops.lengths import inverse_lengths
from mhe_jax.ops.owned import Visit, after
from mhe_jax.ops.storage import Scaled, Stored


def owned_candidate_logits(
    table: Float[Array, "blocks size dim"] | Scaled,
    queries: Float[Array, "batch dim"],
    block_ids: Int[Array, "batch kept"],
    row_ids: Int[Array, "batch rows"],
    visit: Visit,
    unit_rows: bool = False,
) -> tuple[Float32[Array, "batch kept size"], Float32[Array, "batch rows"]]:
    """Inner products of each query with the rows of its own blocks, and with its own rows.

    Args:
      table: [P, n, D], as `mhe_jax.ops.storage` keeps it.
      queries: float [B, D]; their dtype is that of the products.
      block_ids: int [B, K] into P, distinct in a row; the logits of an id outside are 0.
      row_ids: int [B, R] into P * n, likewise.
      visit: how the rows move. The table's gradient is the table after the step.
      unit_rows: whether the products are divided by the rows' lengths, so that unit queries give cosines.

    Returns:
      float32 [B, K, n] and [B, R].
    """
    return _logits(unit_rows, table, queries, block_ids, row_ids, visit)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _logits(unit_rows, table, queries, block_ids, row_ids, visit):
    nothing = block_ids[:, :0]

    def by_runs(table, queries, block_ids, row_ids):
        _, rows = candidate_ops.candidate_logits(table, queries, nothing, row_ids, unit_rows)
        return runs.logits(table, queries, block_ids, unit_rows), rows

    def gathered(table, queries, block_ids, row_ids):
        table = jax.tree.map(visit.spread, table)
        return candidate_ops.candidate_logits(table, queries, block_ids, row_ids, unit_rows)

    if visit.axes:
        return gathered(table, queries, block_ids, row_ids)
    return lax.platform_dependent(table, queries, block_ids, row_ids, cpu=by_runs, default=gathered)


def _forward(unit_rows, *arguments):
    return _logits(unit_rows, *arguments), arguments


def _backward(unit_rows, saved, cotangents):
    table, queries, block_ids, row_ids, visit = saved
    arguments = (table, visit, queries, block_ids, row_ids, *cotangents)
    by_runs, by_blocks = (functools.partial(one, unit_rows) for one in (_by_runs, _by_blocks))
    if visit.axes:
        moved, slots, d_queries = by_blocks(*arguments)
    else:
        moved, slots, d_queries = lax.platform_dependent(*arguments, cpu=by_runs, default=by_blocks)
    return moved, d_queries, None, None, visit.cotangent(slots)


_logits.defvjp(_forward, _backward)


def _by_runs(unit_rows, table, visit, queries, block_ids, row_ids, d_blocks, d_rows):
    """Only the blocks that are in use are read and written; a single row counts as a block with one gradient."""
    num_blocks, size, _ = table.shape
    single = jax.nn.one_hot(row_ids % size, size) * d_rows[:, :, None]
    ids = jnp.concatenate([block_ids, row_ids // size], axis=1)
    every = jnp.ones(size, bool)

    def read(carry, block):
        return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, block * size, size), carry[0])

    def finish(carry, block, gradient):
        return visit.move(*carry, block * size, every, gradient)

    d_logits = jnp.concatenate([d_blocks, single], axis=1)
    flat = _flat(table)
    carry = storage.as_bits(flat), visit.by_rows(flat, row_ops.as_bits)
    (moved, slots), d_queries = runs.backward(carry, read, finish, num_blocks, queries, ids, d_logits, unit_rows)
    return storage.as_numbers(moved).reshape(*table.shape), visit.shaped(slots), d_queries


def _by_blocks(unit_rows, table, visit, queries, block_ids, row_ids, d_blocks, d_rows):
    """All blocks in turn, some at a time, for all examples: as many turns on every device, and large products."""
    num_blocks, size, _ = table.shape
    width = block_ids.shape[1]
    count = min(max(blocks.most_rows(queries, None) // size, 1), num_blocks)
    used = _in_use(visit, num_blocks, jnp.concatenate([block_ids, row_ids // size], axis=1))
    of_slots = jnp.pad(d_blocks, ((0, 0), (0, 1), (0, 0)))  # what is in no slot has no gradient
    put = jax.vmap(lambda zeros, places, values: zeros.at[places].set(values, mode="drop"))
    add = jax.vmap(lambda row, places, values: row.at[places].add(values, mode="drop"))

    def step(state, turn):
        d_queries, moved, slots = state
        first = jnp.minimum(turn * count, num_blocks - count)
        fresh = first + jnp.arange(count) >= turn * count
        start, rows_here = first * size, count * size
        within = lambda ids, begin, end, there: jnp.where((ids >= begin) & (ids < end), ids - there, end)
        slot = put(
            jnp.full_like(block_ids, width, shape=(queries.shape[0], count)),
            within(block_ids, turn * count, first + count, first),
            jnp.broadcast_to(jnp.arange(width)[None, :], block_ids.shape),
        )
        gradient = jnp.take_along_axis(of_slots, slot[:, :, None], axis=1).reshape(-1, rows_here)
        if row_ids.shape[1]:
            gradient = add(gradient, within(row_ids, turn * count * size, start + rows_here, start), d_rows)
        kept = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, rows_here), moved)
        wide = visit.spread(storage.widen(kept))
        inverse = inverse_lengths(wide) if unit_rows else None
        low = (gradient if inverse is None else gradient * inverse[None, :]).astype(queries.dtype)
        rows = wide.astype(queries.dtype)
        d_queries += jnp.einsum("bc,cd->bd", low, rows, preferred_element_type=jnp.float32)
        given = after(queries, d_queries)
        d_table = jnp.einsum("bc,bd->cd", low, given, preferred_element_type=jnp.float32)
        d_table = d_table if inverse is None else blocks.across(d_table, wide, inverse)
        live = jnp.repeat(fresh & lax.dynamic_slice_in_dim(used, first, count), size)
        return (d_queries, *visit.move(moved, slots, start, live, d_table)), None

    state = jnp.zeros_like(queries, jnp.float32), _flat(table), visit.by_rows(_flat(table), lambda slot: slot)
    (d_queries, moved, slots), _ = lax.scan(step, state, jnp.arange(-(-num_blocks // count)))
    return moved.reshape(*table.shape), visit.shaped(slots), d_queries.astype(queries.dtype)


def _in_use(visit: Visit, num_blocks: int, ids: Any) -> jax.Array:
    """Which blocks some example uses, on any device that has the table: bool [P]."""
    inside = jnp.where((ids >= 0) & (ids < num_blocks), ids, num_blocks).reshape(-1)
    uses = jnp.zeros(num_blocks, jnp.int32)
    uses = visit.spread(uses).at[inside].set(1, mode="drop")
    return (lax.psum(uses, visit.axes) if visit.axes else uses) > 0


def _flat(table: Stored) -> Stored:
    return table.reshape(-1, table.shape[-1])
