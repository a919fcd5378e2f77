"""Tables that are updated by the pass that makes their gradient, block by block, so that it never exists whole.

A step of a table with gradient and momentum holds three arrays of its size, and reads and writes them ten times. An
owned table has neither: where the backward pass of `blocked_lse`, `blocked_bce` or `own_and_others` is given a `Visit`,
each block of rows moves by its own gradient at once, and what comes back in the place of the table's gradient is the
table after the step.

The rules have no momentum: a second table that changes in the same loop is copied in each of its turns by XLA.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from mhe_jax.ops import rows as row_ops
from mhe_jax.ops import storage

# Arrays by name with one number for each row of the table, [C], or [P, n] of a table of groups.
Slots = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD:
    """`rows <- rows - rate * (gradient + weight_decay * rows)`: no state at all.

    In the place of .9 of momentum ten times the rate has the same effect in the long run.

    Attributes:
      rate: factor of the schedule's learning rate.
      weight_decay: added to the gradient, times the weights.
    """

    rate: float = 1.0
    weight_decay: float = 0.0

    def init(self, table: jax.Array) -> Slots:
        return {}

    def step(self, rows, grads, slots, learning_rate):
        return rows - self.rate * learning_rate * (grads + self.weight_decay * rows), slots


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowwiseAdagrad:
    """Adagrad with one sum of squares for each row, as recommender systems train embeddings.

    `rows <- rows - rate * (gradient / (sqrt(sum of its mean squares) + eps) + weight_decay * rows)`. Source: FBGEMM's
    exact row-wise Adagrad (Khudia et al., arXiv 2101.05615; the rule itself goes back to Duchi et al. 2011).

    A row's first step is as long as its rate, however small its gradient: for a softmax take a small one, such as .03
    with the schedule's (docs/log.md).

    Attributes:
      rate: factor of the schedule's learning rate.
      eps: added to the root, above 0.
      weight_decay: decoupled, scaled by the learning rate.
    """

    rate: float = 1.0
    eps: float = 1e-10
    weight_decay: float = 0.0

    def __post_init__(self):
        if self.eps <= 0:
            raise ValueError(
                f"config.table_optimizer.eps is {self.eps}; it must be above 0: rows without gradient exist"
            )

    def init(self, table: jax.Array) -> Slots:
        return {"squares": jnp.zeros(table.shape[:-1], jnp.float32)}

    def step(self, rows, grads, slots, learning_rate):
        squares = slots["squares"] + jnp.square(grads).mean(axis=1)
        scaled = grads / (jnp.sqrt(squares) + self.eps)[:, None]
        return rows - self.rate * learning_rate * (scaled + self.weight_decay * rows), {"squares": squares}


@struct.dataclass
class Visit:
    """How the rows of one table move in a step.

    Attributes:
      rule: `SGD` or `RowwiseAdagrad`.
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

    def spread(self, x: jax.Array) -> jax.Array:
        """Inside `jax.shard_map`: what is the same for all examples, marked as varying like them."""
        return lax.pcast(x, self.axes, to="varying") if self.axes else x

    def move(
        self, table: row_ops.Table, slots: Slots, start: Any, live: jax.Array, grads: jax.Array
    ) -> tuple[row_ops.Table, Slots]:
        """Table and slots after rows `start ..` have moved, in place where they are the carry of a loop.

        Args:
          table: [C, D], as `mhe_jax.ops.storage` keeps it, or groups of one.
          slots: of the rule.
          start: int [], the first row's place.
          live: bool [size], False for rows that stay: those that have moved already, and those that are no class.
          grads: float32 [size, D], of these examples.
        """
        size = grads.shape[0]
        if self.axes:
            grads = lax.psum(grads, self.axes)
        take = lambda x: row_ops.take(row_ops.slot(table, x), start, size)
        put = lambda x, new: row_ops.stored(row_ops.put(row_ops.slot(table, x), start, new)).reshape(x.shape)
        moved = lambda new, old: jnp.where(live.reshape(size, *[1] * (old.ndim - 1)), new, old)
        old, old_slots = row_ops.take(table, start, size), jax.tree.map(take, slots)
        wide = storage.widen(old).astype(jnp.float32)
        rows, new_slots = self.rule.step(wide, grads, old_slots, self.learning_rate)
        new = storage.narrow(rows, old, self.first + row_ops.numbers(table, start, size), self.key)
        new, new_slots = jax.tree.map(moved, (new, new_slots), (old, old_slots))
        return row_ops.put(table, start, new), jax.tree.map(put, slots, new_slots)
