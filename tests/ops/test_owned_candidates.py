"""Blocks of a table that move by the gradient of those who use them, on any mesh; the oracle is NumPy's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads import build_head
from mhe_jax.heads.base import Context
from mhe_jax.ops import candidate_logits, owned_candidates, runs, sharded
from mhe_jax.ops.owned import Visit
from mhe_jax.ops.storage import STORAGES, store, widen
from mhe_jax.train.optim.table_rules import SGD
from tests.ops.table_rule_oracle import RATE, RULES, begun, beyond_the_nearest, by_rows, check_slots, moved

KEY = jnp.array([5, 7], jnp.uint32)

BATCH, BLOCKS, SIZE, DIM, KEPT = 16, 24, 3, 5, 4


def problem(storage, num_rows=2, used=9):
    """A table, queries, blocks and rows of each, some of them none, and the gradients of their logits."""
    rng = np.random.default_rng(0)
    table = store(jnp.asarray(rng.normal(size=(BLOCKS, SIZE, DIM)), jnp.float32), storage)
    queries = rng.normal(size=(BATCH, DIM)).astype(np.float32)
    ids = np.stack([rng.permutation(used)[:KEPT] for _ in range(BATCH)])
    ids[::5, -1] = -1
    rows = rng.integers(used * SIZE, size=(BATCH, num_rows))
    rows[::3] = -1
    shapes = (BATCH, KEPT, SIZE), (BATCH, num_rows)
    of_logits = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
    return table, jnp.asarray(queries), jnp.asarray(ids), jnp.asarray(rows), of_logits


def oracle(rule, table, queries, ids, rows, of_logits, slots, unit_rows=False):
    """Logits, the table and slots after the step, and the gradient of the queries, in float64."""
    table, queries = np.asarray(widen(table), np.float64), np.asarray(queries, np.float64)
    flat, ids, rows = table.reshape(-1, DIM), np.asarray(ids), np.asarray(rows)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True) if unit_rows else np.ones((len(flat), 1))
    units = flat / lengths
    members = np.where(ids[:, :, None] < 0, -1, ids[:, :, None] * SIZE + np.arange(SIZE)).reshape(BATCH, -1)
    places = np.concatenate([members, rows], axis=1)
    cotangents = np.concatenate([np.asarray(x, np.float64).reshape(BATCH, -1) for x in of_logits], axis=1)
    cotangents = np.where(places < 0, 0.0, cotangents)
    logits = np.where(places < 0, 0.0, np.einsum("bd,brd->br", queries, units[places]))
    d_flat = np.zeros_like(flat)
    np.add.at(d_flat, places.reshape(-1), np.einsum("br,bd->brd", cotangents, queries).reshape(-1, DIM))
    d_queries = np.einsum("br,brd->bd", cotangents, units[places])
    if unit_rows:
        d_flat = (d_flat - (d_flat * units).sum(axis=1, keepdims=True) * units) / lengths
    used = np.isin(np.arange(len(flat)) // SIZE, places[places >= 0] // SIZE)
    after, new = moved(rule, flat, d_flat, slots)
    stays = lambda new, old: np.where(used.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    return logits, stays(after, flat), {name: stays(slot, slots[name]) for name, slot in new.items()}, d_queries


def check(rule, storage, num_rows=2, used=9, dtype=jnp.float32, unit_rows=False):
    table, queries, ids, rows, of_logits = problem(storage, num_rows, used)
    slots = begun(rule, table)

    def value(table, queries, slots):
        visit = Visit(rule, jnp.float32(RATE), KEY, slots)
        found = sharded.candidate_logits(table, queries.astype(dtype), ids, rows, visit=visit, unit_rows=unit_rows)
        return sum((x * y).sum() for x, y in zip(found, of_logits, strict=True)), found

    step = jax.jit(jax.grad(value, argnums=(0, 1, 2), has_aux=True, allow_int=True))
    (after, d_queries, new_slots), found = step(table, queries, slots)
    problem_of = rule, table, queries, ids, rows, of_logits
    logits, want, want_slots, of_queries = oracle(*problem_of, by_rows(rule, slots), unit_rows)
    flat = np.concatenate([np.asarray(x).reshape(BATCH, -1) for x in found], axis=1)
    np.testing.assert_allclose(flat, logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_queries, of_queries, rtol=1e-5, atol=1e-5)
    check_slots(rule, new_slots, want_slots)
    assert after.dtype == STORAGES[storage]
    found_table = np.asarray(widen(after), np.float64).reshape(-1, DIM)
    if storage == "float32":
        np.testing.assert_allclose(found_table, want, rtol=1e-5, atol=1e-6)
        return
    beyond = beyond_the_nearest(found_table, want, storage)
    touched = np.abs(want - np.asarray(widen(table), np.float64).reshape(-1, DIM)) > 0
    assert 0.1 < beyond[touched].mean() < 0.5
    assert not beyond[~touched].any()


@pytest.mark.parametrize("unit_rows", [False, True], ids=["as they are", "unit rows"])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("rule", RULES)
def test_a_step_is_that_of_the_oracle(rule, storage, unit_rows):
    check(RULES[rule], storage, unit_rows=unit_rows)


@pytest.mark.parametrize("num_rows", [0, 1])
@pytest.mark.parametrize("used", [KEPT, BLOCKS])
def test_any_blocks_and_rows(num_rows, used):
    check(RULES["sgd"], "float32", num_rows, used)


@pytest.mark.parametrize("rule", RULES)
def test_on_a_mesh(rule, mesh):
    check(RULES[rule], "float8" if rule in ("sgd", "adamw") else "float32")
    check(RULES[rule], "float32", unit_rows=True)


def test_accelerators_go_through_all_blocks(monkeypatch):
    """Their way on this device, some blocks at a time so that the last turn overlaps the one before."""
    monkeypatch.setattr(owned_candidates.blocks, "most_rows", lambda queries, size: 7 * SIZE)
    monkeypatch.setattr(
        owned_candidates.lax, "platform_dependent", lambda *arguments, default, **others: default(*arguments)
    )
    for storage in STORAGES:
        check(RULES["sgd"], storage)
    for rule in RULES.values():
        check(rule, "float32")
        check(rule, "float32", unit_rows=True)


def test_runs_are_longer_and_shorter_than_a_tile():
    rng = np.random.default_rng(1)
    table = jnp.asarray(rng.normal(size=(3, SIZE, DIM)), jnp.float32)
    queries = jnp.asarray(rng.normal(size=(300, DIM)), jnp.float32)
    # 298 pairs of block 0, none of block 1, two of block 2.
    ids = jnp.zeros((300, 1), jnp.int32).at[jnp.array([7, 299])].set(2)
    want = candidate_logits.block_logits(table, queries, ids)
    np.testing.assert_allclose(runs.logits(table, queries, ids), want, rtol=1e-5, atol=1e-6)
    none = runs.logits(table, queries, jnp.full((300, 2), 3))
    assert not np.asarray(none).any()


HEADS = {
    "path": {"kind": "softmax", "head_sizes": (4, 5, 3), "objective": "path"},
    "candidates": {"kind": "softmax", "head_sizes": (6, 8), "objective": "candidates", "num_candidates": 2},
    "three levels": {"kind": "softmax", "head_sizes": (4, 4, 3), "objective": "candidates", "num_candidates": 3},
    "faces": {"margin": {"name": "arcface", "scale": 4.0}, "head_sizes": (4, 4, 3)},
    "many labels": {"kind": "multilabel", "head_sizes": (6, 8), "num_candidates": 2},
    "many of three levels": {"kind": "multilabel", "head_sizes": (4, 4, 3), "num_candidates": 3},
}


def cascade_step(name, rule, storage, mask_padding=True):
    """Tables after a step of their own and by the gradient of all, with the gradients of the features."""
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(8, 6)), jnp.float32)
    fields = dict(HEADS[name]) if "margin" in HEADS[name] else {"hidden_dim": DIM, **HEADS[name]}
    is_many = fields.get("kind") == "multilabel"
    # Four labels of a document have more parents than are kept.
    labels = [rng.permutation(41)[:4] for _ in range(8)] if is_many else rng.integers(41, size=8)
    labels = jnp.asarray(np.stack(labels), jnp.int32)
    build = lambda **more: build_head(
        "mhc", num_classes=41, features_dim=6, mask_padding=mask_padding, **fields, **more
    )
    head, plain = build(storage=storage), build()
    params = nn.unbox(head.init(jax.random.key(0), features, labels)["params"])
    names = head.owned_tables()
    slots = {table: rule.init(params[table]) for table in names}

    def loss(params, features, slots):
        visits = {table: Visit(rule, jnp.float32(RATE), KEY, slots[table]) for table in names}
        context = Context(visits=visits, statistics=head.statistics())
        return head.apply({"params": params}, features, labels, context, method="loss")[0].mean()

    def plain_loss(params, features):
        context = Context(statistics=plain.statistics())
        return plain.apply({"params": params}, features, labels, context, method="loss")[0].mean()

    after, d_features, _ = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, features, slots)
    wide = {table: widen(value) if table in names else value for table, value in params.items()}
    gradients, want_d_features = jax.jit(jax.grad(plain_loss, argnums=(0, 1)))(wide, features)
    np.testing.assert_allclose(d_features, want_d_features, rtol=1e-4, atol=1e-6)
    for part in params.keys() - set(names):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), after[part], gradients[part])
    return {table: (widen(after[table]), wide[table], gradients[table]) for table in names}


@pytest.mark.parametrize("mask_padding", [True, False])
@pytest.mark.parametrize("name", HEADS)
def test_cascades_move_their_tables_as_the_gradient_says(name, mask_padding):
    for after, before, gradient in cascade_step(name, SGD(updates="owned", rate=2.0), "float32", mask_padding).values():
        assert np.abs(gradient).max() > 1e-3
        np.testing.assert_allclose(after, before - 2.0 * RATE * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["candidates", "faces", "many of three levels"])
def test_cascades_on_a_mesh(name, mesh):
    for after, before, gradient in cascade_step(name, SGD(updates="owned", rate=2.0), "float32").values():
        np.testing.assert_allclose(after, before - 2.0 * RATE * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["candidates", "faces", "many labels"])
def test_cascades_of_float8(name):
    for after, before, gradient in cascade_step(name, SGD(updates="owned", rate=2.0), "float8").values():
        want = np.asarray(before - 2.0 * RATE * gradient)
        assert (np.abs(after - want) <= np.abs(want) * 2.0**-3 + 2.0**-12 * np.abs(want).max()).all()
