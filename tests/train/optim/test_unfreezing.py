"""Layers that begin to learn one after the other; torch's parameter groups that join later are the oracle of SGD."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from mhe_jax.train.optim.optimizer import build_optimizer

DISTANCES = {"patch": 3, "class_token": 3, "positions": 3, "block_0": 2, "block_1": 1, "block_2": 0, "norm": 0}
RATE = 0.1


def params_of(names=DISTANCES):
    leaf = lambda: {"kernel": jnp.ones((2, 3))}
    return {"backbone": {name: leaf() for name in names}, "head": leaf()}


def trained(steps, **fields):
    """The kernels after each of so many steps of gradient 1, as parts of what they were."""
    optimizer = build_optimizer(ConfigDict({"name": "sgd", "momentum": 0.0, **fields}), lambda step: RATE)
    params, seen = params_of(), []
    state = optimizer.init(params)
    for step in range(steps):
        params, state = optimizer.apply(jax.tree.map(jnp.ones_like, params), state, params, {}, step)
        flat = {**params["backbone"], "head": params["head"]}
        seen.append({name: float(part["kernel"][0, 0]) for name, part in flat.items()})
    return seen


def test_each_layer_begins_at_its_step():
    for step, kernels in enumerate(trained(6, unfreeze_steps=(1, 3, 4)), start=1):
        assert kernels["head"] == pytest.approx(1 - RATE * step)
        for name, distance in DISTANCES.items():
            learned = max(step - (1, 3, 4, 4)[distance], 0)
            assert kernels[name] == pytest.approx(1 - RATE * learned), (step, name)


def test_a_waiting_layer_is_not_decayed_and_rates_are_as_without():
    fields = {"weight_decay": 0.5, "layer_decay": 0.5, "backbone_rate": 0.2}
    whole, late = trained(3, **fields), trained(3, **fields, unfreeze_steps=(0, 2))
    assert late[1]["block_1"] == late[1]["patch"] == 1.0
    assert late[1]["block_2"] == whole[1]["block_2"] < 1
    assert late[2]["patch"] == pytest.approx(whole[0]["patch"])


def test_moments_of_adam_are_learned_while_a_layer_waits():
    """Its first step is thus as long as the others' at that time, and not several times too long."""
    config = ConfigDict({"name": "adamw", "weight_decay": 0.0, "unfreeze_steps": (9,)})
    optimizer = build_optimizer(config, lambda step: RATE)
    params = params_of()
    state = optimizer.init(params)
    for step in range(10):
        before = params
        params, state = optimizer.apply(jax.tree.map(jnp.ones_like, params), state, params, {}, step)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params, before)
    assert (
        moved["backbone"]["patch"]["kernel"] == pytest.approx(moved["head"]["kernel"]) == pytest.approx(RATE, rel=1e-3)
    )


def test_the_network_beside_a_bag():
    optimizer = build_optimizer(ConfigDict({"name": "sgd", "momentum": 0.0, "unfreeze_steps": (1,)}), lambda step: RATE)
    params = params_of()
    params = {"backbone": {"network": params["backbone"], "bag": {"kernel": jnp.ones(2)}}, "head": params["head"]}
    updates, _ = optimizer.transform.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["backbone"]["bag"]["kernel"], -RATE)
    assert optax.tree.norm(updates["backbone"]["network"]) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unfreeze_steps": (3, 1)}, r"config.optimizer.unfreeze_steps is \(3, 1\); they must be ascending, from 0 on"),
        ({"unfreeze_steps": (-1,)}, "they must be ascending, from 0 on"),
        ({"unfreeze_steps": (1, 2, 3, 4, 5)}, "but the backbone has 4 layers"),
    ],
)
def test_impossible_steps_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        build_optimizer(ConfigDict({"name": "sgd", **fields}), lambda step: RATE).init(params_of())


def test_a_frozen_or_unknown_backbone_has_no_steps():
    config = ConfigDict({"name": "sgd", "unfreeze_steps": (1,)})
    with pytest.raises(ValueError, match="unfreeze_steps is .* but config.freeze_backbone keeps all frozen"):
        build_optimizer(config, lambda step: RATE, freeze_backbone=True)
    with pytest.raises(ValueError, match="unfreeze_steps is .* but it is not known which of the backbone's parts are"):
        build_optimizer(config, lambda step: RATE).init(params_of(["strange"]))
