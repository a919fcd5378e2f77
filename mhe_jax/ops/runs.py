"""Examples by the blocks of a table that they use: a block is read where it lies, once, for all of its examples.

An example of a cascade uses a few blocks of rows, and many examples use the same ones. To gather them copies a block
for each example that uses it. Here the pairs of an example and a block are sorted by block, so that those of one are a
run, which is multiplied with the block in tiles of a few examples. When the loop leaves a block its gradient is
complete, and it can move at once.

The loops are as long as there are blocks in use and examples that use them, which the device alone knows. A CPU does
not mind; an accelerator would wait at each turn.

Source: grouped matrix products of mixtures of experts (Gale et al., MegaBlocks, arXiv 2211.15841).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mhe_jax.ops import blocks, storage
from mhe_jax.ops.lengths import inverse_lengths

_SHORTEST, _LONGEST = 8, 64  # examples of a tile


class Runs(NamedTuple):
    """The pairs [B, K] of examples and blocks, sorted by block.

    order: int [B * K], the pairs, those without a block last.
    place: int [B * K], where in `order` each pair is.
    blocks: int [U], the blocks in use, ascending, then what is none; U is what B * K pairs can use.
    begin: int [U + 1], where in `order` the run of each begins, and ends.
    in_use: int [], how many there are.
    tile: examples that are multiplied with a block together.
    """

    order: jax.Array
    place: jax.Array
    blocks: jax.Array
    begin: jax.Array
    in_use: jax.Array
    tile: int

    def examples(self, of_pairs: jax.Array) -> jax.Array:
        """What belongs to each pair, [B * K, ...], in order, and a tile of nothing behind it."""
        return jnp.pad(of_pairs[self.order], [(0, self.tile), *[(0, 0)] * (of_pairs.ndim - 1)])

    def over_tiles(self, run: jax.Array, body: Callable, carry: Any) -> Any:
        """`carry = body(at, carry)` for each tile of a run.

        The last one may reach into the next run, or behind the last pair. What is written there is overwritten, or
        belongs to no block.
        """
        begin, end = self.begin[run], self.begin[run + 1]
        turns = (end - begin + self.tile - 1) // self.tile
        return lax.fori_loop(0, turns, lambda turn, carry: body(begin + turn * self.tile, carry), carry)


def of_pairs(block_ids: jax.Array, num_blocks: int) -> Runs:
    """The runs of block ids [B, K]; those outside 0 .. num_blocks - 1 are none.

    >>> runs = of_pairs(jnp.array([[4, 1], [1, -1]]), 6)
    >>> runs.blocks[: runs.in_use].tolist(), runs.begin[: runs.in_use + 1].tolist(), runs.order.tolist()
    ([1, 4], [0, 2, 3], [1, 2, 0, 3])
    """
    flat = jnp.where((block_ids >= 0) & (block_ids < num_blocks), block_ids, num_blocks).reshape(-1)
    pairs = flat.shape[0]
    most = min(pairs, num_blocks)
    order = jnp.argsort(flat)
    ordered = flat[order]
    inside = ordered < num_blocks
    is_first = inside & (ordered != jnp.pad(ordered, (1, 0), constant_values=-1)[:-1])
    run = jnp.where(is_first, jnp.cumsum(is_first) - 1, most + 1)
    blocks = jnp.full(most, num_blocks, ordered.dtype).at[run].set(ordered, mode="drop")
    begin = jnp.full(most + 1, inside.sum()).at[run].set(jnp.arange(pairs), mode="drop")
    place = jnp.zeros_like(order).at[order].set(jnp.arange(pairs))
    tile = min(max(pairs // num_blocks, _SHORTEST), _LONGEST)
    return Runs(order, place, blocks, begin, is_first.sum(), tile)


def logits(table: storage.Stored, queries: jax.Array, block_ids: jax.Array, unit_rows: bool = False) -> jax.Array:
    """Inner products of each query [B, D] with the rows of its own blocks [B, K] of a table [P, n, D].

    Products run in the dtype of the queries; with `unit_rows` they are divided by the rows' lengths. Returns float32
    [B, K, n], 0 for blocks that are none.
    """
    num_blocks, size, _ = table.shape
    table = storage.as_bits(table)
    runs = of_pairs(block_ids, num_blocks)
    ordered = runs.examples(_of_pairs(queries, block_ids))

    def of_block(run, found):
        kept = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, runs.blocks[run], keepdims=False), table)
        wide = storage.widen(kept)
        rows, inverse = wide.astype(queries.dtype), inverse_lengths(wide) if unit_rows else None

        def of_tile(at, found):
            tile = lax.dynamic_slice_in_dim(ordered, at, runs.tile)
            product = jnp.einsum("md,nd->mn", tile, rows, preferred_element_type=jnp.float32)
            product = product if inverse is None else product * inverse[None, :]
            return lax.dynamic_update_slice_in_dim(found, product, at, axis=0)

        return runs.over_tiles(run, of_tile, found)

    nothing = jnp.zeros((block_ids.size + runs.tile, size), jnp.float32)
    found = lax.fori_loop(0, runs.in_use, of_block, nothing)
    # A tile of the last run may have written to pairs that have no block.
    found = found.at[: block_ids.size].multiply(jnp.arange(block_ids.size)[:, None] < runs.begin[runs.in_use])
    return found[runs.place].reshape(*block_ids.shape, size)


def backward(
    carry: Any,
    read: Callable[[Any, jax.Array], storage.Stored],
    finish: Callable[[Any, jax.Array, jax.Array], Any],
    num_blocks: int,
    queries: jax.Array,
    block_ids: jax.Array,
    d_logits: jax.Array,
    unit_rows: bool = False,
) -> tuple[Any, jax.Array]:
    """Goes through the blocks that are in use with their gradients.

    Args:
      carry: what goes along, such as the table.
      read: `read(carry, block)` is the block [n, D] as it is kept.
      finish: `carry = finish(carry, block, d_rows)` with its gradient, float32 [n, D].
      num_blocks: P.
      queries, block_ids, unit_rows: of `logits`.
      d_logits: float32 [B, K, n].

    Returns:
      the carry, and the gradient of the queries.
    """
    runs = of_pairs(block_ids, num_blocks)
    size, dim, low = d_logits.shape[2], queries.shape[1], queries.dtype
    ordered = runs.examples(_of_pairs(queries, block_ids))
    gradients = runs.examples(d_logits.reshape(-1, size))

    def of_block(run, state):
        carry, found = state
        wide = storage.widen(read(carry, runs.blocks[run]))
        rows, inverse = wide.astype(low), inverse_lengths(wide) if unit_rows else None
        end = runs.begin[run + 1]

        def of_tile(at, state):
            found, d_rows = state
            is_own = at + jnp.arange(runs.tile) < end
            gradient = jnp.where(is_own[:, None], lax.dynamic_slice_in_dim(gradients, at, runs.tile), 0)
            gradient = (gradient if inverse is None else gradient * inverse[None, :]).astype(low)
            tile = lax.dynamic_slice_in_dim(ordered, at, runs.tile)
            d_queries = jnp.einsum("mn,nd->md", gradient, rows, preferred_element_type=jnp.float32)
            d_rows += jnp.einsum("mn,md->nd", gradient, tile, preferred_element_type=jnp.float32)
            return lax.dynamic_update_slice_in_dim(found, d_queries, at, axis=0), d_rows

        found, d_rows = runs.over_tiles(run, of_tile, (found, jnp.zeros((size, dim), jnp.float32)))
        d_rows = d_rows if inverse is None else blocks.across(d_rows, wide, inverse)
        return finish(carry, runs.blocks[run], d_rows), found

    nothing = jnp.zeros((block_ids.size + runs.tile, dim), jnp.float32)
    carry, found = lax.fori_loop(0, runs.in_use, of_block, (carry, nothing))
    d_queries = found[runs.place].reshape(*block_ids.shape, dim).sum(axis=1)
    return carry, d_queries.astype(low)


def _of_pairs(queries, block_ids):
    """The query of each pair, [B * K, D]."""
    return jnp.repeat(queries, block_ids.shape[1], axis=0)
