"""Learning rates of parts of the model; parameter groups of torch are the oracle where they can say the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.models import build_backbone
from mhe_jax.train.optim.optimizer import build_optimizer

try:
    import torch
except ImportError:
    torch = None

NAMES = {"word_embedding": 3, "embedding_norm": 3, "layer_0": 2, "layer_1": 1, "layer_2": 0}
RATE = 0.02


def params_of(names=NAMES):
    rng = np.random.default_rng(0)
    leaf = lambda: rng.normal(size=(2, 3)).astype(np.float32)
    return {"backbone": {name: {"kernel": leaf()} for name in names}, "head": {"kernel": leaf()}}


def updates_of(params, grads, **fields):
    optimizer = build_optimizer(ConfigDict(fields), lambda step: RATE)
    return optimizer.transform.update(grads, optimizer.init(params), params)[0]


def test_an_update_of_sgd_is_scaled_by_the_layer():
    params = params_of()
    ones = jax.tree.map(jnp.ones_like, params)
    found = updates_of(params, ones, name="sgd", momentum=0.0, layer_decay=0.5, backbone_rate=0.1, head_rate=3.0)
    for name, distance in NAMES.items():
        np.testing.assert_allclose(found["backbone"][name]["kernel"], -RATE * 0.1 * 0.5**distance, rtol=1e-6)
    np.testing.assert_allclose(found["head"]["kernel"], -RATE * 3, rtol=1e-6)


def test_every_parameter_of_an_encoder_has_the_rate_of_its_layer():
    sizes = {"vocab_size": 9, "hidden_size": 4, "num_layers": 2, "num_heads": 2, "intermediate_size": 4}
    encoder = build_backbone(ConfigDict({"name": "bert", **sizes, "max_positions": 8}), jnp.float32)
    init = lambda: encoder.init(jax.random.key(0), jnp.ones((1, 3), int), jnp.ones(1, int), train=False)
    params = {"backbone": jax.jit(init)()["params"], "head": {"kernel": jnp.ones(2)}}
    ones = jax.tree.map(jnp.ones_like, params)
    plain, decayed = (
        updates_of(params, ones, name="sgd", momentum=0.0, weight_decay=0.1, layer_decay=decay) for decay in (1.0, 0.5)
    )
    expected = {"layer_1": 1.0, "layer_0": 0.5}
    for name, part in plain["backbone"].items():
        jax.tree.map(
            lambda a, b, name=name: np.testing.assert_allclose(a, expected.get(name, 0.25) * b, rtol=1e-6),
            decayed["backbone"][name],
            part,
        )
    np.testing.assert_array_equal(decayed["head"]["kernel"], plain["head"]["kernel"])


def test_a_bag_beside_a_network_has_a_rate_of_its_own():
    params = params_of()
    params["backbone"] = {"network": params["backbone"], "bag": {"embedding": np.ones((2, 3), np.float32)}}
    ones = jax.tree.map(jnp.ones_like, params)
    fields = {"name": "sgd", "momentum": 0.0, "layer_decay": 0.5, "backbone_rate": 0.1, "bag_rate": 7.0}
    found = updates_of(params, ones, **fields)
    for name, distance in NAMES.items():
        np.testing.assert_allclose(found["backbone"]["network"][name]["kernel"], -RATE * 0.1 * 0.5**distance, rtol=1e-6)
    np.testing.assert_allclose(found["backbone"]["bag"]["embedding"], -RATE * 7, rtol=1e-6)
    with pytest.raises(ValueError, match=r"config\.optimizer\.bag_rate is 7\.0, but there is no bag beside a network"):
        updates_of(params_of(), ones, name="sgd", bag_rate=7.0)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_layer_decay_is_a_parameter_group_of_torch_for_each_layer(name):
    start, target = params_of(), 0.3
    theirs = {key: torch.tensor(part["kernel"], requires_grad=True) for key, part in start["backbone"].items()}
    groups = [{"params": [p], "lr": RATE * 0.7 ** NAMES[key]} for key, p in theirs.items()]
    if name == "sgd":
        optimizer = torch.optim.SGD(groups, lr=RATE, momentum=0.9, weight_decay=0.05)
    else:
        optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), weight_decay=0.05)
    for _ in range(6):
        optimizer.zero_grad()
        sum(((p - target) ** 2).sum() for p in theirs.values()).backward()
        optimizer.step()

    fields = {"weight_decay": 0.05, "decay_all": True, "layer_decay": 0.7, **({} if name == "sgd" else {"b2": 0.98})}
    ours = build_optimizer(ConfigDict({"name": name, **fields}), lambda step: RATE)
    params, state = start, ours.init(start)
    for step in range(6):
        grads = jax.tree.map(lambda p: 2 * (p - target), params)
        params, state = ours.apply(grads, state, params, {}, step)
    for key, value in theirs.items():
        found = params["backbone"][key]["kernel"]
        np.testing.assert_allclose(found, value.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_without_it_the_state_is_that_of_old_checkpoints():
    params = params_of()
    states = (
        build_optimizer(ConfigDict({"name": "adamw", **fields}), lambda step: RATE).init(params)
        for fields in ({}, {"layer_decay": 1.0}, {"layer_decay": 0.5})
    )
    first, *others = (jax.tree.structure(state) for state in states)
    assert all(other == first for other in others)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, float("nan")])
def test_impossible_decays_are_errors(decay):
    with pytest.raises(ValueError, match=f"config.optimizer.layer_decay is {decay}; it must be above 0 and at most 1"):
        build_optimizer(ConfigDict({"name": "sgd", "layer_decay": decay}), lambda step: RATE)


def test_a_backbone_of_unknown_structure_is_an_error_before_the_first_step():
    params = params_of(["encoder", "decoder"])
    optimizer = build_optimizer(ConfigDict({"name": "adamw", "layer_decay": 0.5}), lambda step: RATE)
    with pytest.raises(ValueError, match=r"layer_decay is 0\.5, but it is not known which .*: decoder, encoder$"):
        optimizer.init(params)
    build_optimizer(ConfigDict({"name": "adamw", "backbone_rate": 0.5}), lambda step: RATE).init(params)


def test_a_backbone_of_one_layer_has_none_to_slow_down():
    optimizer = build_optimizer(ConfigDict({"name": "sgd", "layer_decay": 0.5}), lambda step: RATE)
    with pytest.raises(ValueError, match=r"layer_decay is 0\.5, but the backbone has nothing below its last layer$"):
        optimizer.init(params_of(["dense1", "bn1", "dense_features", "bn_features"]))


def test_a_frozen_backbone_has_no_layers_to_slow_down():
    section = ConfigDict({"name": "sgd", "layer_decay": 0.9})
    with pytest.raises(ValueError, match=r"layer_decay is 0\.9, but config.freeze_backbone leaves it nothing to train"):
        build_optimizer(section, lambda step: RATE, freeze_backbone=True)
