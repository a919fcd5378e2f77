"""Rules of a head's large tables at work; row-sparse ones read and write the blocks that a step uses, and no others.

With a million classes the gradient of a table is mostly zeros, and a dense optimizer spends its time and memory moving
weights that did not take part. Here every block (the members of a group, the children of a node) has slots of its own,
and follows the optimizer over just those steps that used it: between two uses nothing decays, neither moments nor
weights. This is not the dense optimizer, which goes on moving unused rows by momentum and weight decay.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.ops import mapped, per_row
from mhe_jax.ops.owned import Slots
from mhe_jax.ops.storage import Scaled
from mhe_jax.train.optim.table_rules import TABLE_OPTIMIZERS, Rule


def build_table_optimizer(section: ConfigDict) -> Rule | None:
    """The rule of `config.table_optimizer`; None for 'none', where `config.optimizer` trains the tables too."""
    return registry.build(TABLE_OPTIMIZERS, section, "config.table_optimizer")


def offered(rule: Rule, sparse_tables: tuple[str, ...], owned_tables: tuple[str, ...]) -> tuple[str, ...]:
    """Which tables of a head a rule can have, of those that its loss can move and those of which it can use a part."""
    by_update = {"sparse": sparse_tables, "owned": owned_tables, "dense": (*owned_tables, *sparse_tables)}
    return tuple(dict.fromkeys(by_update[rule.updates]))


def init(rule: Rule, tables: dict[str, Any]) -> dict[str, Slots]:
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


def apply(rule: Rule, tables: dict, slots: dict, blocks: dict, grads: dict, learning_rate) -> tuple[dict, dict]:
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


def apply_whole(rule: Rule, tables: dict, slots: dict, grads: dict, learning_rate) -> tuple[dict, dict]:
    """Tables and slots after a step of all their rows, of dicts by name; see `apply`."""
    moved = {name: rule.step(table, grads[name], slots[name], learning_rate) for name, table in tables.items()}
    return {name: table for name, (table, _) in moved.items()}, {name: slot for name, (_, slot) in moved.items()}


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
