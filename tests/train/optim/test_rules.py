"""Row-sparse rules: each block follows the dense optimizer over just the steps that used it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from mhe_jax.train.optim import rules
from mhe_jax.train.optim.optimizer import build_optimizer
from mhe_jax.train.optim.schedules import build_schedule

BLOCKS, SHAPE, STEPS, RATE = 7, (3, 2), 9, 0.05
RULES = {
    "sgd": ({"name": "sgd", "weight_decay": 0.1}, optax.chain(optax.add_decayed_weights(0.1), optax.sgd(RATE))),
    "adamw": ({"name": "adamw", "weight_decay": 0.1}, optax.adamw(RATE, weight_decay=0.1)),
    "adagrad": ({"name": "adagrad"}, optax.chain(optax.scale_by_rss(0.0, 1e-20), optax.scale(-RATE))),
}


def trajectory(section, table, used, grads):
    """The table after steps that used the given blocks, filled up to the same number with BLOCKS."""
    rule = rules.build_table_optimizer(ConfigDict(section))
    tables, slots = {"t": jnp.asarray(table)}, rules.init(rule, {"t": jnp.asarray(table)})
    step = jax.jit(lambda *args: rules.apply(rule, *args, RATE))
    for ids, step_grads in zip(used, grads, strict=True):
        filled = jnp.full(5, BLOCKS).at[: len(ids)].set(jnp.array(sorted(ids)))
        rows = rules.gather(jnp.asarray(step_grads), filled)
        tables, slots = step(tables, slots, {"t": filled}, {"t": rows})
    return np.asarray(tables["t"])


@pytest.fixture
def steps():
    rng = np.random.default_rng(0)
    used = [sorted(rng.choice(BLOCKS - 1, size=rng.integers(1, 5), replace=False).tolist()) for _ in range(STEPS)]
    return rng.normal(size=(BLOCKS, *SHAPE)), used, rng.normal(size=(STEPS, BLOCKS, *SHAPE))


@pytest.mark.parametrize("name", RULES)
def test_each_block_follows_the_dense_optimizer_over_its_own_steps(name, steps):
    table, used, grads = (np.asarray(x, np.float32) if not isinstance(x, list) else x for x in steps)
    section, dense = RULES[name]
    found = trajectory(section, table, used, grads)
    for block in range(BLOCKS):
        row = jnp.asarray(table[block])
        state = dense.init(row)
        for step in range(STEPS):
            if block in used[step]:
                updates, state = dense.update(jnp.asarray(grads[step, block]), state, row)
                row = optax.apply_updates(row, updates)
        np.testing.assert_allclose(found[block], row, rtol=1e-5, atol=1e-6, err_msg=str(block))
    np.testing.assert_array_equal(found[BLOCKS - 1], table[BLOCKS - 1])


def test_rate_multiplies_the_schedule(steps):
    table, used, grads = steps
    once = trajectory({"name": "sgd", "rate": 1.0}, table, used[:1], grads[:1])
    twice = trajectory({"name": "sgd", "rate": 2.0}, table, used[:1], grads[:1])
    np.testing.assert_allclose(twice - table, 2 * (once - table), rtol=1e-4, atol=1e-6)


def optimizer(table_section, clip=None, tables=("t",)):
    schedule = build_schedule(ConfigDict({"name": "constant", "learning_rate": RATE}), 10, 5)
    dense = ConfigDict({"name": "sgd", "momentum": 0.0})
    return build_optimizer(dense, schedule, clip and ConfigDict(clip), ConfigDict(table_section), tables)


def test_the_other_parameters_are_left_to_the_dense_optimizer():
    params = {"backbone": {"k": jnp.ones(2)}, "head": {"t": jnp.ones((BLOCKS, *SHAPE)), "bias": jnp.ones(3)}}
    both = optimizer({"name": "sgd"})
    blocks = {"t": jnp.array([2, 5, BLOCKS])}
    grads = {"backbone": {"k": jnp.ones(2)}, "head": {"t": jnp.ones((3, *SHAPE)), "bias": jnp.ones(3)}}
    new, _ = both.apply(grads, both.init(params), params, blocks, 0)
    changed = np.asarray((new["head"]["t"] != 1).all(axis=(1, 2)))
    np.testing.assert_array_equal(np.flatnonzero(changed), [2, 5])
    np.testing.assert_allclose(new["backbone"]["k"], 1 - RATE)
    np.testing.assert_allclose(new["head"]["bias"], 1 - RATE)


def test_impossible_combinations_are_named():
    with pytest.raises(ValueError, match="config.table_optimizer is 'sgd' but this head has no table"):
        optimizer({"name": "sgd"}, tables=())
    with pytest.raises(ValueError, match=r"config.clip.norm \(1.0\) needs the norm of the whole gradient"):
        optimizer({"name": "adamw"}, clip={"name": "norm", "norm": 1.0})
    with pytest.raises(ValueError, match="config.table_optimizer.name is 'lamb'"):
        optimizer({"name": "lamb"})
