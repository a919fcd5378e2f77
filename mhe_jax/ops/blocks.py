"""A pass over a long table of classes, one block of rows at a time, and the backward pass of all losses that are one.

The table is an array [C, D], or some groups of one (`mhe_jax.ops.rows`), whose rows are counted through.

Losses differ in what a block of logits says of an example, and in the gradient of the logits; the rest is here: how
long a block is, what it holds, and how the gradients of features, rows and biases come of that of the logits.

Inside `jax.shard_map`, features and table must vary over the same mesh axes (`jax.lax.pcast`), unless the table is
visited, see `mhe_jax.ops.owned`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export, lax

from mhe_jax.ops import per_row, storage
from mhe_jax.ops import rows as row_ops
from mhe_jax.ops.lengths import inverse_lengths
from mhe_jax.ops.owned import Visit, after
from mhe_jax.ops.rows import Table

_BLOCK_FLOATS = 2**24  # the automatic block holds at most 64 MiB of float32 logits, and of rows
_LANES = 128


class Block(NamedTuple):
    """Some rows of the table, and what they say of each example.

    begin: the first row that no earlier block had, `index * size`.
    start: the first row.
    rows: [size, D], in the features' dtype.
    inverse: float32 [size], one over the lengths of rows that count as unit vectors, 0 for rows of zeros; or None.
    logits: float32 [B, size].
    fresh: bool [size], not in an earlier block.
    live: bool [size], fresh and unmasked.
    """

    begin: Any
    start: jax.Array
    rows: jax.Array
    inverse: jax.Array | None
    logits: jax.Array
    fresh: jax.Array
    live: jax.Array

    def places(self, labels: jax.Array) -> jax.Array:
        """Columns of labels [B] or [B, W] that are fresh rows of this block; its size for others."""
        size = self.rows.shape[0]
        here = (labels >= self.begin) & (labels < self.start + size)
        return jnp.where(here, labels - self.start, size)

    def is_label(self, labels: jax.Array) -> jax.Array:
        """Which entries of [B, size] are the example's label [B]; each is fresh in one block."""
        return self.places(labels)[:, None] == jnp.arange(self.rows.shape[0])[None, :]

    def add_at(self, labels: jax.Array, values: jax.Array, more: jax.Array) -> jax.Array:
        """`values` [B, size] and `more` at the labels [B] or [B, W] that are fresh rows: [B], or [B, W] for each."""
        if labels.ndim == 1:
            return values + jnp.where(self.is_label(labels), more[:, None], 0.0)
        add = lambda row, columns, number: row.at[columns].add(number, mode="drop")
        return jax.vmap(add)(values, self.places(labels), more)


def zero_per_example(features: jax.Array) -> jax.Array:
    """float32 zeros [B] to start a scan from. Made of the features, for inside `jax.shard_map` a carry has to vary over
    the same mesh axes as the values it will hold."""
    return jnp.zeros_like(features[:, 0], jnp.float32)


def most_rows(features: jax.Array, block_size: int | None) -> int:
    """Rows that a block should hold."""
    widest = max(per_row.expected(features.shape[0]), features.shape[1])
    fitting = _BLOCK_FLOATS // widest // _LANES * _LANES
    return block_size or max(fitting, _LANES)


def of_whole_classes(features: jax.Array, block_size: int | None, centers: int) -> int | None:
    """A block size of whole classes, where a class is `centers` rows."""
    return max(most_rows(features, block_size) // centers, 1) * centers if centers > 1 else block_size


def nearest(logits: jax.Array, centers: int) -> jax.Array:
    """The largest logit of each class, which alone has a gradient: [B, classes * centers] -> [B, classes]."""
    return logits if centers == 1 else logits.reshape(len(logits), -1, centers).max(axis=2)


def layout(features: jax.Array, table: Table, block_size: int | None) -> tuple[int, int]:
    """Rows per block and number of blocks."""
    num_rows, unit = row_ops.count(table), row_ops.unit(table)
    size = min(max(most_rows(features, block_size) // unit, 1) * unit, num_rows)
    return size, -(-num_rows // size)


class More(NamedTuple):
    """What a gradient of logits has besides, at single places."""

    places: jax.Array  # int [B, W], columns of the block; distinct, but for those that are none
    values: jax.Array  # float32 [B, W]

    def put(self, gradient: jax.Array, low: jax.Array) -> jax.Array:
        """`low`, which is the gradient [B, size] rounded, with the sums at those places, rounded once."""
        sums = jnp.take_along_axis(gradient, self.places, axis=1, mode="fill", fill_value=0.0) + self.values
        put = lambda row, at, value: row.at[at].set(value, mode="drop")
        return jax.vmap(put)(low, self.places, sums.astype(low.dtype))

    def by_class(self, size: int) -> jax.Array:
        """Summed up over the examples, float32 [size]."""
        return jnp.zeros(size).at[self.places.reshape(-1)].add(self.values.reshape(-1), mode="drop")


class Known(NamedTuple):
    """What a pass found of its blocks, for the next one, which finds the same table."""

    logits: jax.Array  # [..., B, size]
    inverse: jax.Array | None  # [..., size]


def at(
    index, size, features, table, bias, mask, unit_rows=False, visit: Visit | None = None, known: Known | None = None
) -> Block:
    """Block `index`, of which something may be known.

    The last one is shifted back to end at the table's end: no padded copy of the table is made. Nor is one of rows of
    length 1: what is divided by their lengths is the logits.
    """
    start = jnp.minimum(index * size, row_ops.count(table) - size)
    rows = _take(table, start, size, features.dtype)
    rows = rows if visit is None else visit.spread(rows)
    logits, inverse = known or (None, inverse_lengths(rows) if unit_rows else None)
    rows = rows.astype(features.dtype)
    if logits is None:
        logits = jnp.einsum("bd,cd->bc", features, rows, preferred_element_type=jnp.float32)
        if inverse is not None:
            logits *= inverse[None, :]
        if bias is not None:
            logits += lax.dynamic_slice_in_dim(bias, start, size).astype(jnp.float32)[None, :]
    fresh = start + jnp.arange(size) >= index * size
    live = fresh & lax.dynamic_slice_in_dim(mask, start, size)
    return Block(index * size, start, rows, inverse, logits, fresh, live)


def across(d_rows: jax.Array, rows: jax.Array, inverse: jax.Array) -> jax.Array:
    """The gradient [R, D] of rows of which the directions alone count: without its part along them."""
    units = rows.astype(jnp.float32) * inverse[:, None]
    return d_rows - (d_rows * units).sum(axis=1, keepdims=True) * units


def _take(table, start, size, dtype):
    """Rows of the table, which will be rounded or widened to `dtype`.

    XLA's compilers for CPUs and TPUs would do that to the whole table before the loop, and keep a copy of it.
    """
    rows = row_ops.take(table, start, size)
    return storage.widen(rows if rows.dtype == dtype else lax.optimization_barrier(rows))


def forward(step: Callable, initial: Any, block_size, features, table, bias, mask, unit_rows=False, visit=None) -> Any:
    """`carry = step(carry, block)` over all blocks, from `initial`."""
    return forward_and_known(step, initial, block_size, features, table, bias, mask, unit_rows, visit, False)[0]


def forward_and_known(
    step: Callable, initial: Any, block_size, features, table, bias, mask, unit_rows=False, visit=None, keep=True
) -> tuple[Any, Known | None]:
    """The same, and what `backward` may know of each block, or None where all logits outgrow one: they are made again
    then."""
    size, count = layout(features, table, block_size)
    most = size * features.shape[0] if block_size else _BLOCK_FLOATS
    keep = keep and count * size * features.shape[0] <= most

    def passed(table):
        def body(carry, index):
            block = at(index, size, features, table, bias, mask, unit_rows, visit)
            return step(carry, block), Known(block.logits, block.inverse) if keep else None

        return lax.scan(body, initial, jnp.arange(count))

    if export.is_symbolic_dim(features.shape[0]):  # a program for others, in whose languages there are no platforms
        return passed(table)
    return row_ops.in_a_loop(lambda kept: passed(kept(table)), row_ops.stored(table))


def backward(
    d_logits: Callable[[Block], jax.Array | tuple[jax.Array, More]],
    block_size: int | None,
    features: jax.Array,
    table: Table,
    bias: jax.Array | None,
    mask: jax.Array,
    unit_rows: bool = False,
    visit: Visit | None = None,
    known: Known | None = None,
) -> tuple[jax.Array, Table, jax.Array | None, Visit | None]:
    """The gradients of features, table, bias and visit.

    With a visit the table's is the table after the step, in which rows that are no class have not moved, and the
    visit's slots are those after it.

    Args:
      d_logits: the gradient of a block's logits, float32 [B, size], 0 where it is not fresh; or in two parts.
      block_size, features, table, bias, mask, unit_rows: of `forward`.
      visit: see `mhe_jax.ops.owned`; None: the table stays, and a gradient of its size is made.
      known: of `forward_and_known`.
    """
    size, count = layout(features, table, block_size)

    def step(carry, piece):
        d_features, moved, d_bias, slots = carry
        index, of_block = piece
        # Rows that are fresh have not moved yet.
        block = at(index, size, features, table if visit is None else moved, bias, mask, unit_rows, visit, of_block)
        found = d_logits(block)
        gradient, more = found if isinstance(found, tuple) else (found, None)
        low = (gradient if block.inverse is None else gradient * block.inverse[None, :]).astype(features.dtype)
        low = low if more is None else more.put(gradient, low)
        d_features += jnp.einsum("bc,cd->bd", low, block.rows, preferred_element_type=jnp.float32)
        given = features if visit is None else after(features, d_features)
        d_rows = jnp.einsum("bc,bd->cd", low, given, preferred_element_type=jnp.float32)
        if block.inverse is not None:
            rows = storage.widen(row_ops.take(table if visit is None else moved, block.start, size))
            d_rows = across(d_rows, rows if visit is None else visit.spread(rows), block.inverse)
        if visit is None:
            moved = row_ops.add(moved, block.start, d_rows)
        else:
            moved, slots = visit.move(moved, slots, block.start, block.live, d_rows)
        if bias is not None:
            of_classes = gradient.sum(axis=0) + (0.0 if more is None else more.by_class(size))
            d_bias = row_ops.add(d_bias, block.start, of_classes)
        return (d_features, moved, d_bias, slots), None

    def passed(kept):
        d_features, d_bias = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), (features, bias))
        moved = row_ops.zeros(table) if visit is None else kept(table)
        slots = {} if visit is None else visit.by_rows(table, kept)
        pieces = jnp.arange(count), known
        (d_features, moved, d_bias, slots), _ = lax.scan(step, (d_features, moved, d_bias, slots), pieces)
        moved = storage.as_numbers(row_ops.stored(moved))
        return d_features, moved, d_bias, slots if visit is None else visit.shaped(slots)

    narrow = row_ops.stored(table), {} if visit is None else visit.slots
    d_features, moved, d_bias, slots = row_ops.in_a_loop(passed, narrow)
    d_table = jax.tree.map(lambda new, old: new.astype(old.dtype), moved, row_ops.stored(table))
    d_bias = None if bias is None else d_bias.astype(bias.dtype)
    of_visit = None if visit is None else visit.cotangent(slots)
    return d_features.astype(features.dtype), row_ops.cotangent(table, d_table), d_bias, of_visit
