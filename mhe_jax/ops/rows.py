"""The rows of classes that a pass over blocks goes through: a whole table, or some groups of one.

A step of a sampled head trains some groups of classes. They are taken from the table, and put back or added to it, a
block at a time: neither the chosen rows nor their gradients are ever all in memory, and no other row is touched.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from mhe_jax.ops import storage
from mhe_jax.ops.storage import Bits, Scaled, Stored

# With more than this share of a table's groups, to go through all of it and mask the rest costs no more than to gather.
_SHARE_TO_MASK = 0.5


@struct.dataclass
class Groups:
    """Rows [U * n, D] of a table, in the order of the groups.

    Attributes:
      weight: [P, n, D], as `mhe_jax.ops.storage` keeps it, or [P, n] where a row is one number.
      ids: int [U], which groups, distinct; from P on they are none, and their rows have to be masked.
    """

    weight: Any
    ids: Any


Table = jax.Array | Scaled | Bits | Groups


def of_groups(weight: Stored, ids: jax.Array, most_rows: int, together: int = 1) -> Groups:
    """Some groups; long ones are cut into pieces of at most `most_rows`, if they divide.

    Args:
      weight: [P, n, ...].
      ids: int [U]; those outside 0 .. P-1 hold no group.
      most_rows: that a block should hold.
      together: rows that no cut may part; n is a multiple of it.
    """
    groups, size = weight.shape[:2]
    pieces = next((m for m in range(-(-size // most_rows), size + 1) if size % m == 0 == size // m % together), 1)
    pieces = pieces if 4 * (size // pieces) >= most_rows else 1
    # Distinct where there is no group either, so that no two of them are ever written to one place.
    ids = jnp.where((ids >= 0) & (ids < groups), ids, groups + jnp.arange(ids.shape[0]))
    if pieces > 1:
        weight = weight.reshape(groups * pieces, size // pieces, *weight.shape[2:])
        ids = (ids[:, None] * pieces + jnp.arange(pieces)[None, :]).reshape(-1)
    return Groups(weight, ids)


class Chosen(NamedTuple):
    """The members of chosen groups, as the passes over blocks take them."""

    table: Any  # [R, D]
    labels: jax.Array  # int [...]: the row of each label, or -1
    mask: jax.Array  # bool [R]: rows that are classes
    offsets: jax.Array | None  # float32 [R], of their groups


def chosen(
    weight: Float[Array, "groups size dim"] | Scaled,
    ids: Int[Array, "chosen"],
    labels: Int[Array, "*shape"],
    num_codes: Int[Array, ""] | int,
    most_rows: int,
    offsets: Float[Array, "chosen"] | Float[Array, "chosen size"] | None = None,
    together: int = 1,
) -> Chosen:
    """The classes of some groups of a table: gathered by blocks, or if they are most of it, all with a mask.

    >>> found = chosen(jnp.zeros((5, 2, 1)), jnp.array([3, 9]), jnp.array([7, 0]), num_codes=10, most_rows=2)
    >>> found.labels.tolist(), found.mask.tolist()
    ([1, -1], [True, True, False, False])

    Args:
      weight: [P, n, D].
      ids: int [U], distinct, in any order; those outside 0 .. P-1 are none.
      labels: int [...], codes group * n + member; those of other groups have no row.
      num_codes: members at or above are no classes.
      most_rows, together: see `of_groups`.
      offsets: float [U], of each group, or [U, n], of each member.
    """
    groups, size, dim = weight.shape
    if ids.shape[0] >= _SHARE_TO_MASK * groups:
        table: Table = weight.reshape(-1, dim)
        of_place = jnp.arange(groups)
        places = _or_beyond(ids, groups)
        live = jnp.zeros(groups, bool).at[places].set(True, mode="drop")
        if offsets is not None:
            offsets = jnp.zeros((groups, *offsets.shape[1:])).at[places].set(offsets, mode="drop")
    else:
        table, of_place = of_groups(weight, ids, most_rows, together), ids
        live = (ids >= 0) & (ids < groups)
    return located(table, of_place, live, labels, num_codes, groups, size, offsets)


def located(
    table: Table,
    ids: Int[Array, "places"],
    live: Bool[Array, "places"],
    labels: Int[Array, "*shape"],
    num_codes: Int[Array, ""] | int,
    num_groups: int,
    size: int,
    offsets: Float[Array, "places"] | Float[Array, "places size"] | None = None,
) -> Chosen:
    """Which rows of a table are classes, and which are labels.

    Args:
      table: rows [K * n, D] of K places, each for a group.
      ids: int [K], the group of each place; those that are live are distinct.
      live: bool [K].
      labels, num_codes: see `chosen`.
      num_groups: above all ids that are live.
      size: n.
      offsets: float [K], of each group, or [K, n], of each member.
    """
    members = ids[:, None] * size + jnp.arange(size)[None, :]
    mask = live[:, None] & (members < num_codes)
    place = jnp.full(num_groups, -1).at[jnp.where(live, ids, num_groups)].set(jnp.arange(ids.shape[0]), mode="drop")
    there = (labels >= 0) & (labels < num_groups * size)
    at = place[jnp.where(there, labels // size, 0)]
    of_rows = None if offsets is None else (jnp.repeat(offsets, size) if offsets.ndim == 1 else offsets.reshape(-1))
    found = jnp.where(there & (at >= 0), at * size + labels % size, -1)
    return Chosen(table, found, mask.reshape(-1), of_rows)


def zeros(table: Table) -> Table:
    """float32 zeros of the shape of a table of plain numbers, by the same rows."""
    if isinstance(stored(table), Scaled):
        raise TypeError("a table of float8 numbers has no gradient: give the loss a visit, see mhe_jax.ops.owned")
    if isinstance(table, Groups):
        return Groups(jnp.zeros_like(table.weight, jnp.float32), table.ids)
    return jnp.zeros_like(table, jnp.float32)


def slot(table: Table, array: Stored, wide: bool = False) -> Table:
    """An array with a number, or if `wide` a row, for each row of the whole table, of any shape, by the same rows."""
    width = stored(table).shape[-1:] if wide else ()
    if isinstance(table, Groups):
        return Groups(array.reshape(*table.weight.shape[:2], *width), table.ids)
    return array.reshape(table.shape[0], *width)


def as_bits(table: Table) -> Table:
    """The same rows, kept as `storage.as_bits`."""
    return Groups(storage.as_bits(table.weight), table.ids) if isinstance(table, Groups) else storage.as_bits(table)


def in_a_loop(function: Callable[[Callable[[Table], Table]], Any], narrow: Any) -> Any:
    """`function(kept)`, where `kept` makes of a table what a loop over its blocks should carry on the device.

    Args:
      function: that has such a loop.
      narrow: what it goes through, any pytree.
    """
    as_it_is = lambda table: table
    if all(leaf.dtype.itemsize >= 4 for leaf in jax.tree.leaves(narrow)):
        return function(as_it_is)
    return lax.platform_dependent(cpu=lambda: function(as_bits), default=lambda: function(as_it_is))


def stored(table: Table) -> Stored:
    """The table itself."""
    return table.weight if isinstance(table, Groups) else table


def cotangent(table: Table, gradient: Stored) -> Table:
    """What a backward pass returns for a table."""
    return Groups(gradient, None) if isinstance(table, Groups) else gradient


def count(table: Table) -> int:
    """How many rows there are to go through."""
    return table.ids.shape[0] * table.weight.shape[1] if isinstance(table, Groups) else table.shape[0]


def unit(table: Table) -> int:
    """The number of rows of which a block has to hold a multiple."""
    return table.weight.shape[1] if isinstance(table, Groups) else 1


def numbers(table: Table, start: jax.Array, size: int) -> jax.Array:
    """Which rows of the whole table `size` rows from `start` are, int [size]."""
    if not isinstance(table, Groups):
        return start + jnp.arange(size)
    rows = _ids(table, start, size)[:, None] * unit(table) + jnp.arange(unit(table))[None, :]
    return rows.reshape(-1)


def take(table: Table, start: jax.Array, size: int) -> Stored:
    """`size` rows from `start`, [size, ...], as they are kept; for a group that is none, some other rows."""
    if not isinstance(table, Groups):
        return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), table)
    ids = _ids(table, start, size)
    return jax.tree.map(lambda x: jnp.take(x, ids, axis=0, mode="clip").reshape(size, *x.shape[2:]), table.weight)


def put(table: Table, start: jax.Array, new: Stored) -> Table:
    """The table with other rows there, kept likewise; in place where it is the carry of a loop."""
    if not isinstance(table, Groups):
        return jax.tree.map(lambda x, rows: lax.dynamic_update_slice_in_dim(x, rows, start, axis=0), table, new)
    ids = _ids(table, start, new.shape[0])

    def put_groups(x, rows):
        return x.at[ids].set(rows.reshape(-1, *x.shape[1:]), mode="drop", unique_indices=True)

    return Groups(jax.tree.map(put_groups, table.weight, new), table.ids)


def add(table: Any, start: jax.Array, more: jax.Array) -> Table:
    """A table of plain numbers with something added to its rows there; likewise."""
    if not isinstance(table, Groups):
        return put(table, start, lax.dynamic_slice_in_dim(table, start, more.shape[0]) + more)
    ids = _ids(table, start, more.shape[0])
    rows = more.reshape(-1, *table.weight.shape[1:])
    return Groups(table.weight.at[ids].add(rows, mode="drop", unique_indices=True), table.ids)


def _or_beyond(ids, groups):
    """Ids, and `groups` for those outside: a negative one would count from the end."""
    return jnp.where((ids >= 0) & (ids < groups), ids, groups)


def _ids(table, start, size):
    return lax.dynamic_slice_in_dim(table.ids, start // unit(table), size // unit(table))
