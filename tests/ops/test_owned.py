"""Owned tables: the loss moves each row as its rule does with the gradient, on any mesh; the oracle is NumPy's."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads import build_head
from mhe_jax.heads.base import Context
from mhe_jax.ops.owned import Visit
from mhe_jax.ops.storage import STORAGES, widen
from mhe_jax.train.optim.table_rules import SGD, AdamW
from tests.ops.table_rule_oracle import RATE, RULES, adamw_rows, begun, beyond_the_nearest, by_rows, check_slots, moved

BATCH, DIM, CLASSES = 16, 5, 37  # neither blocks of 3 nor devices divide the classes
KINDS = {
    "softmax": {"label_smoothing": 0.1},
    "multilabel": {},
    "margin": {"margin": {"name": "none", "scale": 4.0}},
}
KEY = jnp.array([5, 7], jnp.uint32)


def problem(kind):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(BATCH, DIM)).astype(np.float32)
    if kind == "multilabel":
        return features, np.stack([rng.permutation(CLASSES)[:3] for _ in range(BATCH)]).astype(np.int32)
    return features, rng.integers(CLASSES, size=BATCH).astype(np.int32)


def gradients(kind, kernel, bias, features, labels):
    """Of the mean loss with respect to features and kernel, in float64."""
    kernel, bias, features = (x if x is None else x.astype(np.float64) for x in (kernel, bias, features))
    if kind == "margin":
        norms, lengths = np.linalg.norm(kernel, axis=1, keepdims=True), np.linalg.norm(features, axis=1, keepdims=True)
        units, queries = kernel / norms, features / lengths
        d_logits = softmax(4.0 * queries @ units.T)
        d_logits[np.arange(BATCH), labels] -= 1
        d_units, d_queries = 4.0 * d_logits.T @ queries / BATCH, 4.0 * d_logits @ units / BATCH
        along = lambda d, unit, length: (d - (d * unit).sum(axis=1, keepdims=True) * unit) / length
        return along(d_queries, queries, lengths), along(d_units, units, norms)
    logits = features @ kernel.T + bias
    if kind == "softmax":
        d_logits = softmax(logits) - 0.1 / CLASSES
        d_logits[np.arange(BATCH), labels] -= 0.9
    else:
        d_logits = 1 / (1 + np.exp(-logits))
        np.put_along_axis(d_logits, labels, np.take_along_axis(d_logits, labels, axis=1) - 1, axis=1)
    return d_logits @ kernel / BATCH, d_logits.T @ features / BATCH


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def one_step(kind, rule, storage, features, labels, block_size=3):
    """Parameters and slots before, what comes back in their places, and the gradient of the features."""
    fields = {**KINDS[kind], "block_size": block_size, "storage": storage}
    head = build_head("ohe", num_classes=CLASSES, features_dim=DIM, kind=kind, **fields)
    params = nn.unbox(head.init(jax.random.key(1), features, labels)["params"])
    slots = begun(rule, params["kernel"])

    def loss(params, features, slots):
        visit = Visit(rule, jnp.float32(RATE), KEY, slots)
        context = Context(visits={"kernel": visit}, statistics=head.statistics())
        return head.apply({"params": params}, features, labels, context, method="loss")[0].mean()

    return params, slots, jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, jnp.asarray(features), slots)


def check(kind, rule, storage, block_size=3):
    features, labels = problem(kind)
    params, slots, (after, d_features, new_slots) = one_step(kind, rule, storage, features, labels, block_size)
    wide = lambda table: np.asarray(widen(table)).astype(np.float32)[:CLASSES]
    kernel = wide(params["kernel"])
    bias = np.asarray(params["bias"])[:CLASSES] if "bias" in params else None
    of_features, of_kernel = gradients(kind, kernel, bias, features, labels)
    before = {name: slot[:CLASSES] for name, slot in by_rows(rule, slots).items()}
    want, want_slots = moved(rule, kernel, of_kernel, before)
    np.testing.assert_allclose(d_features, of_features, rtol=1e-4, atol=1e-6)
    atol = 2e-6 if kind == "margin" else 1e-6  # of cosines the products are divided, in float32
    check_slots(rule, new_slots, want_slots, atol)
    assert after["kernel"].dtype == params["kernel"].dtype == STORAGES[storage]
    found = wide(after["kernel"]).astype(np.float64)
    if storage == "float32":
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=atol)
        return
    assert 0.1 < beyond_the_nearest(found, want, storage).mean() < 0.4


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_the_oracle(kind, rule, storage):
    check(kind, RULES[rule], storage)


@pytest.mark.parametrize("block_size", [1, 36, 37, 0])
def test_blocks_of_any_length_move_each_row_once(block_size):
    check("softmax", RULES["sgd"], "float32", block_size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_on_a_mesh(kind, rule, mesh):
    check(kind, RULES[rule], "float8" if rule in ("sgd", "adamw") else "float32")


def test_numbers_are_rounded_alike_on_every_mesh():
    features, labels = problem("softmax")
    found = []
    for shape in [(1, 1), (8, 1), (2, 4)]:
        mesh = jax.make_mesh(shape, ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
        with jax.set_mesh(mesh):
            after = one_step("softmax", RULES["sgd"], "bfloat16", features, labels)[2][0]
        found.append(np.asarray(after["kernel"])[:CLASSES].astype(np.float32))
    # But where a sum of float32 numbers comes out otherwise.
    assert all((np.abs(one - found[0]) > 0).mean() < 0.02 for one in found)


@pytest.mark.parametrize("margin", ["arcface", "curricularface"])
def test_a_margin_moves_rows_as_its_gradient_says(margin):
    features, labels = problem("margin")
    fields = {"margin": {"name": margin}, "block_size": 3}
    head = build_head("ohe", num_classes=CLASSES, features_dim=DIM, **fields)
    params = nn.unbox(head.init(jax.random.key(1), features, labels)["params"])

    def loss(params, visits):
        context = Context(visits=visits, statistics=head.statistics())
        return head.apply({"params": params}, features, labels, context, method="loss")[0].mean()

    rule = SGD(updates="owned", rate=0.1)
    gradient = jax.grad(loss)(params, {})["kernel"]
    after = jax.grad(loss)(params, {"kernel": Visit(rule, jnp.float32(RATE), KEY, {})})["kernel"]
    np.testing.assert_allclose(after, params["kernel"] - 0.1 * RATE * gradient, rtol=1e-5, atol=1e-7)


SAMPLERS = {
    "union": {"name": "batch_union"},
    "some": {"name": "random_groups", "rate": 0.3},
    "all": {"name": "random_groups", "rate": 1.0},
}


def sampled_steps(kind, sampler, rule, groups=24, **fields):
    """Table, slots and gradient of the features after a step, those by the gradient of all, and the rows in use."""
    features, labels = problem(kind)
    labels = labels[:2] if sampler == "union" else labels
    features = jnp.asarray(features[: len(labels)])
    fields |= {**KINDS[kind], "sampler": SAMPLERS[sampler], "block_size": 4}
    head = build_head(
        "mhs", num_classes=CLASSES, head_sizes=(groups, -(-CLASSES // groups)), features_dim=DIM, kind=kind, **fields
    )
    params = nn.unbox(head.init({"params": jax.random.key(1), "sample": jax.random.key(2)}, features, labels)["params"])
    slots = begun(rule, params["weight"])

    def loss(params, features, slots, owned):
        visits = {"weight": Visit(rule, jnp.float32(RATE), KEY, slots)} if owned else {}
        context = Context(key=jax.random.key(3), visits=visits, statistics=head.statistics())
        return head.apply({"params": params}, features, labels, context, method="loss")[0].mean()

    step = jax.jit(jax.grad(loss, argnums=(0, 1, 2)), static_argnums=3)
    after, d_features, new_slots = step(params, features, slots, True)
    grads, want_d_features, _ = step(params, features, slots, False)
    np.testing.assert_allclose(d_features, want_d_features, rtol=1e-4, atol=1e-6)
    table, gradient = (np.asarray(tree["weight"], np.float64) for tree in (params, grads))
    rows, gradient = table.reshape(-1, DIM), gradient.reshape(-1, DIM)
    want, want_slots = moved(rule, rows, gradient, before := by_rows(rule, slots))
    used = (gradient != 0).any(axis=1)
    stays = lambda new, old: np.where(used.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    want_slots = {name: stays(slot, before[name]) for name, slot in want_slots.items()}
    return after["weight"], stays(want, rows).reshape(table.shape), new_slots, want_slots, table


def check_sampled(kind, sampler, rule):
    after, want, slots, want_slots, _ = sampled_steps(kind, sampler, rule)
    np.testing.assert_allclose(after, want, rtol=1e-5, atol=1e-6)
    check_slots(rule, slots, want_slots)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sampled_head_moves_the_groups_that_it_trains(kind, sampler):
    check_sampled(kind, sampler, SGD(updates="owned", rate=2.0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_a_sampled_head_on_a_mesh(kind, rule, mesh):
    check_sampled(kind, "some", dataclasses.replace(RULES[rule], weight_decay=0.0))


@pytest.mark.parametrize("groups", [3, 37], ids=["long groups", "groups of one"])
def test_groups_of_any_length_move(groups):
    after, want, *_ = sampled_steps("softmax", "union", SGD(updates="owned", rate=2.0), groups)
    np.testing.assert_allclose(after, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_a_step_leaves_out_do_not_decay(kind):
    after, _, _, _, before = sampled_steps(kind, "union", SGD(updates="owned", weight_decay=0.5))
    stayed = (np.asarray(after) == before).all(axis=(1, 2))
    _, labels = problem(kind)
    used = np.unique(labels[:2] // 2)
    assert np.flatnonzero(~stayed).tolist() == used.tolist()


def test_sampled_rows_are_kept_in_bfloat16():
    after, want, _, _, before = sampled_steps("softmax", "some", SGD(updates="owned", rate=2.0), storage="bfloat16")
    assert after.dtype == jnp.bfloat16
    found = np.asarray(after).astype(np.float64)
    # The gradient that `want` is made of was rounded to the table's dtype.
    allowed = np.abs(want) * 2.0**-7 + np.abs(want - before) * 2.0**-8
    assert (np.abs(found - want) <= allowed + 1e-6).all()


def test_many_steps_of_bfloat16_follow_float32_where_the_nearest_number_stands_still():
    rule, steps = SGD(updates="owned"), 400
    visit = Visit(rule, jnp.float32(1e-3), KEY, {})
    fresh, gradient = jnp.ones(64, bool), jnp.full((64, 8), -0.5)
    table = jnp.ones((64, 8), jnp.bfloat16)

    def step(table, key):
        return dataclasses.replace(visit, key=key).move(table, {}, 0, fresh, gradient)[0], None

    keys = jax.random.bits(jax.random.key(0), (steps, 2), jnp.uint32)
    last, _ = jax.lax.scan(step, table, keys)
    # Each step adds 5e-4, and the next number after 1 is 1.0078.
    assert (jnp.ones((), jnp.bfloat16) + jnp.bfloat16(5e-4)) == 1
    np.testing.assert_allclose(np.asarray(last, np.float64).mean(), 1 + steps * 5e-4, rtol=5e-3)


@pytest.mark.parametrize("blocks", [3, 0], ids=["blocks", "whole"])
def test_moments_in_bfloat16_are_rounded_by_chance_and_rows_move_by_what_is_kept(blocks):
    features, labels = problem("softmax")
    rule = dataclasses.replace(RULES["adamw"], moments="bfloat16")
    params, slots, (after, _, new_slots) = one_step("softmax", rule, "float32", features, labels, blocks)
    assert {name for name, slot in new_slots.items() if slot.dtype == jnp.bfloat16} == set(rule.wide)
    kernel, bias = (np.asarray(params[name])[:CLASSES] for name in ("kernel", "bias"))
    _, gradient = gradients("softmax", kernel, bias, features, labels)
    before, found = ({name: slot[:CLASSES] for name, slot in by_rows(rule, s).items()} for s in (slots, new_slots))
    _, want = moved(rule, kernel, gradient, before)
    shares = [beyond_the_nearest(found[name], want[name], "bfloat16").mean() for name in rule.wide]
    assert min(shares) > 0.1
    assert max(shares) < 0.5
    np.testing.assert_allclose(after["kernel"][:CLASSES], adamw_rows(rule, kernel, found), rtol=1e-5, atol=1e-6)


def test_a_mean_of_squares_in_bfloat16_decays_though_each_step_is_less_than_a_number():
    """.999 of a number is nearer to the number itself than to the next one."""
    rule, table = AdamW(updates="owned", rate=0.0, moments="bfloat16"), jnp.ones((64, 8))
    slots, every = jax.tree.map(jnp.ones_like, rule.init(table)), jnp.ones(64, bool)

    def step(slots, key):
        visit = Visit(rule, jnp.float32(1.0), key, slots)
        return visit.shaped(
            visit.move(table, visit.by_rows(table, lambda slot: slot), 0, every, jnp.zeros((64, 8)))[1]
        ), None

    last, _ = jax.lax.scan(step, slots, jax.random.bits(jax.random.key(0), (500, 2), jnp.uint32))
    np.testing.assert_allclose(np.asarray(last["square"], np.float64).mean(), 0.999**500, rtol=5e-3)
