"""Row-sparse optimizers for a head's large tables: a step reads and writes the blocks it uses, and no others.

With a million classes the gradient of a table is mostly zeros, and a dense optimizer spends its time and memory moving
weights that did not take part. Here every block (the members of a group, the children of a node) has slots of its own,
and follows the optimizer over just those steps that used it: between two uses nothing decays, neither moments nor
weights. This is not the dense optimizer, which goes on moving unused rows by momentum and weight decay.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.ops import mapped, owned, per_row
from mhe_jax.ops.storage import STORAGES, Scaled

# Arrays by name whose leading axis is that of the table, [P, ...].
Slots = dict[str, Any]


def _require(updates: str, storage: str, kinds: tuple[str, ...]) -> None:
    """Raises ValueError if a rule does not move tables so, or tables that are moved so are not stored so."""
    path = "config.table_optimizer"
    if updates not in kinds:
        raise ValueError(f"{path}.updates is {updates!r}; of this rule it must be one of {', '.join(kinds)}")
    known = tuple(STORAGES) if updates == "owned" else ("float32",)
    if storage not in known:
        raise ValueError(f"{path}.storage is {storage!r}; of updates {updates!r} it must be one of {', '.join(known)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseAlone:
    """A rule of row-sparse tables that has no form for owned ones.

    Attributes:
      updates: 'sparse', see `sgd`.
      storage: 'float32' alone.
    """

    updates: str = "sparse"
    storage: str = "float32"

    def __post_init__(self):
        _require(self.updates, self.storage, ("sparse",))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseSGD:
    """torch.optim.SGD of each block over the steps that used it; without momentum it has no slots at all.

    With momentum it is PartialFC's update (arXiv 2203.15565): its first version swaps the sampled rows and their
    momentum into the optimizer, so that the others neither decay nor move on.

    Attributes:
      rate: factor of the schedule's learning rate.
      weight_decay: added to the gradient, times the weights.
      momentum: share of the last update that the next one keeps; 0: none is kept.
    """

    rate: float = 1.0
    weight_decay: float = 0.0
    momentum: float = 0.0

    def init(self, table: jax.Array) -> Slots:
        return {"trace": jnp.zeros_like(table)} if self.momentum else {}

    def step(self, rows, grads, slots, learning_rate):
        update = grads + self.weight_decay * rows
        if self.momentum:
            update += self.momentum * slots["trace"]
            slots = {"trace": update}
        return rows - self.rate * learning_rate * update, slots


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseAdagrad(SparseAlone):
    """`rows <- rows - rate * gradient / (sqrt(sum of its squares) + eps)` (Duchi et al. 2011), torch.optim.Adagrad.

    Attributes:
      rate: factor of the schedule's learning rate.
      weight_decay: added to the gradient, times the weights.
      eps: added to the root.
    """

    rate: float = 1.0
    weight_decay: float = 0.0
    eps: float = 1e-10

    def init(self, table: jax.Array) -> Slots:
        return {"squares": jnp.zeros_like(table)}

    def step(self, rows, grads, slots, learning_rate):
        grads = grads + self.weight_decay * rows
        squares = slots["squares"] + grads**2
        return rows - self.rate * learning_rate * grads / (jnp.sqrt(squares) + self.eps), {"squares": squares}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseAdamW(SparseAlone):
    """AdamW of each block over the steps that used it; `count` of them corrects the bias, so early uses are not damped.

    Attributes:
      rate: factor of the schedule's learning rate.
      b1: decay of the mean of the gradients.
      b2: decay of the mean of their squares.
      eps: added to the root of the squares.
      weight_decay: decoupled and scaled by the learning rate, as in torch.optim.AdamW.
    """

    rate: float = 1.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def init(self, table: jax.Array) -> Slots:
        count = jnp.zeros(table.shape[0], jnp.int32)
        return {"mean": jnp.zeros_like(table), "square": jnp.zeros_like(table), "count": count}

    def step(self, rows, grads, slots, learning_rate):
        count = slots["count"] + 1
        mean = self.b1 * slots["mean"] + (1 - self.b1) * grads
        square = self.b2 * slots["square"] + (1 - self.b2) * grads**2
        used = count.astype(jnp.float32).reshape(-1, *[1] * (rows.ndim - 1))
        scaled = mean / (1 - self.b1**used) / (jnp.sqrt(square / (1 - self.b2**used)) + self.eps)
        new_rows = rows - self.rate * learning_rate * (scaled + self.weight_decay * rows)
        return new_rows, {"mean": mean, "square": square, "count": count}


def none(updates: str = "sparse", storage: str = "float32", rate: float = 1.0, weight_decay: float = 0.0) -> None:
    """No rule: `config.optimizer` trains the tables densely.

    Args:
      updates, storage, rate, weight_decay: of the other rules, for the command line to set with the name; here as
        they are.
    """
    if (updates, storage, rate, weight_decay) != ("sparse", "float32", 1.0, 0.0):
        raise ValueError(
            f"config.table_optimizer has updates {updates!r}, storage {storage!r}, rate {rate} and weight_decay "
            f"{weight_decay}, but with the name "
            "'none' config.optimizer trains the tables: set name = 'sgd' or 'rowwise_adagrad'"
        )


def sgd(
    updates: str = "sparse",
    storage: str = "float32",
    rate: float = 1.0,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
) -> SparseSGD | owned.SGD:
    """torch.optim.SGD of the rows that a step touches.

    Args:
      updates: 'sparse' gathers the blocks that a step uses, moves them, and puts them back; 'owned' moves all rows in
        the pass that makes their gradient, see `mhe_jax.ops.owned`.
      storage: how an owned table is kept, see `mhe_jax.ops.storage`; 'bfloat16' and 'float8' are rounded by chance.
      rate: factor of the schedule's learning rate.
      weight_decay: added to the gradient, times the weights.
      momentum: share of the last update that the next one keeps; 0: none is kept.
    """
    _require(updates, storage, ("sparse", "owned"))
    if updates == "sparse":
        return SparseSGD(rate=rate, weight_decay=weight_decay, momentum=momentum)
    if momentum:
        raise ValueError(
            f"config.table_optimizer.momentum is {momentum}, but an owned table has no room for it: set momentum = 0 "
            "and a larger rate, or updates = 'sparse'"
        )
    return owned.SGD(rate=rate, weight_decay=weight_decay)


def rowwise_adagrad(
    updates: str = "owned",
    storage: str = "float32",
    rate: float = 1.0,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
) -> owned.RowwiseAdagrad:
    """Adagrad with one sum of squares for each row of an owned table.

    Args:
      updates: 'owned', see `sgd`.
      storage: as in `sgd`.
      rate: factor of the schedule's learning rate.
      weight_decay: decoupled, scaled by the learning rate.
      eps: added to the root.
    """
    _require(updates, storage, ("owned",))
    return owned.RowwiseAdagrad(rate=rate, weight_decay=weight_decay, eps=eps)


def is_owned(rule: Any) -> bool:
    """Whether a rule is one of owned tables."""
    return isinstance(rule, owned.SGD | owned.RowwiseAdagrad)


TABLE_OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "none": none,
    "sgd": sgd,
    "rowwise_adagrad": rowwise_adagrad,
    "adagrad": SparseAdagrad,
    "adamw": SparseAdamW,
}


def build_table_optimizer(section: ConfigDict):
    """The rule of `config.table_optimizer`; None for 'none', where `config.optimizer` trains the tables densely.

    `rate` multiplies the learning rate of the schedule.
    """
    return registry.build(TABLE_OPTIMIZERS, section, "config.table_optimizer")


def init(rule, tables: dict[str, Any]) -> dict[str, Slots]:
    """The slots of each table before its first step, partitioned like the table if that says how it is."""
    return {name: _partitioned_like(table, rule.init(nn.unbox(table))) for name, table in tables.items()}


def gather(tree: Any, blocks: jax.Array) -> Any:
    """Blocks of arrays [P, ...]; for ids outside, which fill `blocks` up, some other block.

    Args:
      tree: arrays whose leading axis is split over mesh axis 'class' if there is one.
      blocks: int [U], or int [parts, U] where part p holds blocks of the p-th equal part of the arrays; each device
        then reads its own alone.

    Returns:
      the tree with leading axis U, or parts * U.
    """
    take = lambda array, ids: jnp.take(array, ids.reshape(-1), axis=0, mode="clip")
    if not _on_devices(blocks):
        return jax.tree.map(lambda array: take(array, blocks), tree)
    local = lambda array, ids: take(array, ids - jax.lax.axis_index("class") * array.shape[0])
    on_devices = mapped.shard_map(local, in_specs=_SPLIT, out_specs=_SPLIT[0])
    return jax.tree.map(lambda array: on_devices(array, blocks), tree)


def held(blocks: jax.Array, num_blocks: int) -> jax.Array:
    """Which of the blocks that `gather` gives are those that were asked for, bool [U]; the others fill them up.

    Args:
      blocks: see `apply`.
      num_blocks: of the whole table.
    """
    parts = blocks.shape[0] if blocks.ndim == 2 else 1
    ends = num_blocks // parts * (1 + jnp.arange(parts, dtype=blocks.dtype))
    return (blocks.reshape(parts, -1) < ends[:, None]).reshape(-1)


_SPLIT = PartitionSpec("class"), PartitionSpec("class")


def _on_devices(blocks: jax.Array) -> bool:
    """Whether each device along 'class' holds its own of the blocks."""
    return blocks.ndim == 2 and per_row.axis_size("class") > 1


def apply(rule, tables: dict, slots: dict, blocks: dict, grads: dict, learning_rate) -> tuple[dict, dict]:
    """Tables and slots after a step.

    Args:
      rule: of `build_table_optimizer`.
      tables: name -> [P, ...].
      slots: of `init`.
      blocks: name -> int32 [U], ascending, filled up with P; or [parts, U], see `gather`, each part ascending and
        filled up with the id after its last.
      grads: name -> [U, ...] or [parts * U, ...], of the gathered blocks.
      learning_rate: of this step.
    """
    new_tables, new_slots = {}, {}
    for name, table in tables.items():
        arguments = table, slots[name], blocks[name], grads[name], learning_rate
        new_tables[name], new_slots[name] = _update(rule, *arguments)
    return new_tables, new_slots


def _update(rule, table, slots, blocks, grads, learning_rate):
    """`apply` of one table. Each device reads and writes what it holds, and of blocks alone: no slot is sent."""
    num_blocks, parts, shards = table.shape[0], blocks.shape[0], per_row.axis_size("class")

    def local(table, slots, ids, grads, learning_rate, first):
        places = ids.reshape(-1) - first
        if ids.ndim == 2:
            # A part is filled up with the id after its last, which may be a block of the next part.
            length = num_blocks // parts
            ends = first // length + 1 + jnp.arange(ids.shape[0])
            places = jnp.where(ids < ends[:, None] * length, ids - first, table.shape[0]).reshape(-1)
        held = (places >= 0) & (places < table.shape[0])
        take = lambda array: jnp.take(array, places, axis=0, mode="clip")
        rows, row_slots = rule.step(take(table), grads, jax.tree.map(take, slots), learning_rate)
        places = jnp.where(held, places, table.shape[0])
        put = lambda old, new: old.at[places].set(new, mode="drop")
        return put(table, rows), jax.tree.map(put, slots, row_slots)

    if shards == 1 or num_blocks % shards:
        return local(table, slots, blocks, grads, learning_rate, 0)

    def on_device(table, slots, ids, grads, learning_rate):
        return local(table, slots, ids, grads, learning_rate, jax.lax.axis_index("class") * table.shape[0])

    split, of_blocks = _SPLIT[0], PartitionSpec("class") if blocks.ndim == 2 else PartitionSpec()
    in_specs = (split, split, of_blocks, of_blocks, PartitionSpec())
    return mapped.shard_map(on_device, in_specs=in_specs, out_specs=(split, split))(
        table, slots, blocks, grads, jnp.asarray(learning_rate, jnp.float32)
    )


def _partitioned_like(table: Any, slots: Slots) -> Slots:
    table = table.values if isinstance(table, Scaled) else table
    if not isinstance(table, nn.Partitioned):
        return slots
    return {name: table.replace(value=slot, names=table.names[: slot.ndim]) for name, slot in slots.items()}
