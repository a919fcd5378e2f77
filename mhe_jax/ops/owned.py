"""Tables that are updated by the pass that makes their gradient, block by block, so that it never exists whole.

Where the backward pass of `blocked_lse`, `blocked_bce` or `own_and_others` is given a `Visit`, each block of rows moves
by its own gradient at once, and what comes back in the place of the table's gradient is the table after the step: a
step holds the table and what its rule keeps, and reads and writes each once.

A rule may keep arrays of the table's shape, such as momentum. They change in the same loop, and XLA's compiler for CPUs
copies them whole in each of its turns if they are read for two purposes, their own change and the rows'. So they are
changed first, and what the rows need of them is read back.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from mhe_jax.ops import rows as row_ops
from mhe_jax.ops import storage

# Arrays by name, with a number for each row of the table, [C], or [P, n] of a table of groups, or of the table's shape.
Slots = dict[str, Any]


@struct.dataclass
class Visit:
    """How the rows of one table move in a step.

    Attributes:
      rule: such as those of `config.table_optimizer`: `absorb(rows, grads, slots)` gives the slots after the step, and
        `move(rows, grads, slots, learning_rate)` the rows, from these; all in float32. `wide` names the slots of the
        table's shape.
      learning_rate: float32 [], of the schedule.
      key: uint32 [2], what numbers are rounded by.
      slots: of the rule.
      first: int32 [], which row of the whole table its first one is.
      axes: mesh axes over which the examples are split, and each block's gradient has to be summed.
    """

    rule: Any = struct.field(pytree_node=False)
    learning_rate: Any
    key: Any
    slots: Any
    first: Any = 0
    axes: tuple[str, ...] = struct.field(pytree_node=False, default=())

    def cotangent(self, slots: Any) -> "Visit":
        """What a backward pass returns for a visit: in the place of the slots' gradients the slots after the step."""
        return dataclasses.replace(self, learning_rate=None, key=None, slots=slots, first=None)

    def by_rows(self, table: row_ops.Table, kept: Callable[[Any], Any]) -> dict[str, row_ops.Table]:
        """The slots by the rows of the table, as a loop should carry them.

        If `move` had to reshape them, XLA would copy them in each turn. Each is then `kept` as the table is.
        """
        return {name: kept(row_ops.slot(table, slot, name in self.rule.wide)) for name, slot in self.slots.items()}

    def shaped(self, by_rows: dict[str, Any]) -> Slots:
        """The slots as they are kept."""
        kept: dict[str, Any] = {name: storage.as_numbers(row_ops.stored(slot)) for name, slot in by_rows.items()}
        return {name: slot.reshape(*self.slots[name].shape) for name, slot in kept.items()}

    def spread(self, x: jax.Array) -> jax.Array:
        """Inside `jax.shard_map`: what is the same for all examples, marked as varying like them."""
        return lax.pcast(x, self.axes, to="varying") if self.axes else x

    def move(
        self, table: row_ops.Table, slots: dict[str, row_ops.Table], start: Any, live: jax.Array, grads: jax.Array
    ) -> tuple[row_ops.Table, dict[str, row_ops.Table]]:
        """Table and slots after rows `start ..` have moved, in place where they are the carry of a loop.

        Args:
          table: [C, D], as `mhe_jax.ops.storage` keeps it, or groups of one.
          slots: of `by_rows`.
          start: int [], the first row's place.
          live: bool [size], False for rows that stay: those that have moved already, and those that are no class.
          grads: float32 [size, D], of these examples.
        """
        size = grads.shape[0]
        if self.axes:
            grads = lax.psum(grads, self.axes)
        row_ids = self.first + row_ops.numbers(table, start, size)
        stays = lambda new, old: jnp.where(live.reshape(size, *[1] * (old.ndim - 1)), new, old)

        def put(array, new, number):
            """Rows of a table or slot, where they may move; numbers that are narrow are rounded by chance."""
            old = row_ops.take(array, start, size)
            if new.ndim > 1:
                new = storage.narrow(new, old, row_ids, self.key ^ jnp.uint32(number))
            return row_ops.put(array, start, jax.tree.map(stays, new, old))

        take = lambda array: storage.widen(row_ops.take(array, start, size)).astype(jnp.float32)
        rows = take(table)
        absorbed = self.rule.absorb(rows, grads, {name: take(slot) for name, slot in slots.items()})
        numbered = enumerate(slots.items(), start=1)
        slots = {name: put(slot, absorbed[name], number) for number, (name, slot) in numbered}
        read_back = {name: take(slot) for name, slot in slots.items()}
        return put(table, self.rule.move(rows, grads, read_back, self.learning_rate), 0), slots


def after(x: jax.Array, done: jax.Array) -> jax.Array:
    """`x`, but not before another value of its shape; and where that is NaN, NaN.

    A row has to be read before it moves. Of a loop that moves a table and a read that nothing puts in order, XLA's
    compiler for CPUs gives one a copy of the whole table, in each turn; and no barrier is left when it does so.
    """
    return jnp.where(jnp.isnan(done), jnp.nan, x).astype(x.dtype)
