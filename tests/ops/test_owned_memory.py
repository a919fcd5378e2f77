"""A step of an owned table holds the table and its slots once: no compiler's copy, by any rule, of any head."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads import build_head
from mhe_jax.heads.base import Context
from mhe_jax.ops import blocks
from mhe_jax.ops.owned import Visit
from tests.ops.table_rule_oracle import RULES

CLASSES, DIM, BATCH, BLOCK = 2**15, 32, 8, 1024
HEADS = {
    "softmax": ("ohe", {"kind": "softmax", "block_size": BLOCK}),
    "sigmoid": ("ohe", {"kind": "multilabel", "block_size": BLOCK}),
    "margin": ("ohe", {"margin": {"name": "arcface"}, "block_size": BLOCK}),
    "cascade": ("mhc", {"kind": "softmax", "head_sizes": (256, 128), "hidden_dim": DIM}),
    "cascade of many": ("mhc", {"kind": "multilabel", "head_sizes": (256, 128), "hidden_dim": DIM}),
    "cascade of faces": ("mhc", {"margin": {"name": "arcface"}, "head_sizes": (256, 128)}),
    "sampled": ("mhs", {"kind": "softmax", "head_sizes": (256, 128), "sampler": {"name": "batch_union"}}),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", HEADS)
def test_no_table_is_copied(name, rule):
    check(*HEADS[name], RULES[rule], BATCH)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["softmax", "margin"])
def test_nor_where_logits_are_kept(name, rule, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_FLOATS", 2 * CLASSES)
    head_name, fields = HEADS[name]
    check(head_name, {**fields, "block_size": 0}, RULES[rule], batch=2)


@pytest.mark.parametrize("storage", ["bfloat16", "float8"])
@pytest.mark.parametrize("name", HEADS)
def test_of_a_narrow_table_no_more_than_its_bits_are_copied(name, storage):
    """Once, to be integers in the loop; a turn that widened the whole table would take four bytes for each number."""
    rule = dataclasses.replace(RULES["adamw"], storage=storage, moments="bfloat16")
    head_name, fields = HEADS[name]
    check(head_name, {**fields, "storage": storage}, rule, BATCH)


def check(head_name, fields, rule, batch):
    head = build_head(head_name, num_classes=CLASSES, features_dim=DIM, **fields)
    many = fields.get("kind") == "multilabel"
    features, labels = jnp.ones((batch, DIM)), jnp.zeros((batch, 2) if many else batch, jnp.int32)

    def step(tables, slots, others, features, labels, wanted):
        def loss(tables, slots, others, features):
            visits = {table: Visit(rule, jnp.float32(0.1), jnp.zeros(2, jnp.uint32), slots[table]) for table in slots}
            context = Context(visits=visits, statistics=head.statistics(), want_value=wanted, key=jax.random.key(1))
            losses = head.apply({"params": {**others, **tables}}, features, labels, context, method="loss")[0]
            return losses.mean()

        return jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(tables, slots, others, features)

    init = lambda: head.init({"params": jax.random.key(0), "sample": jax.random.key(0)}, features, labels)["params"]
    params = nn.unbox(jax.eval_shape(init))
    tables = {table: params.pop(table) for table in head.owned_tables()}
    slots = {table: jax.eval_shape(rule.init, shape) for table, shape in tables.items()}
    wanted = jax.ShapeDtypeStruct((), bool)
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(tables, slots, params, features, labels, wanted)
    held = lowered.compile().memory_analysis()
    leaves = jax.tree.leaves((tables, slots))
    bytes_of = lambda leaf: np.prod(leaf.shape) * leaf.dtype.itemsize
    assert held.alias_size_in_bytes >= sum(map(bytes_of, leaves))
    # And the blocks that a step works on.
    bits = sum(bytes_of(leaf) for leaf in leaves if leaf.dtype.itemsize < 4)
    assert held.temp_size_in_bytes < bits + 0.4 * CLASSES * DIM * 4
