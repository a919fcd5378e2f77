"""The network on features: what each of its parts does, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.models import build_backbone
from mhe_jax.models.depth import distances_from_top

FEATURES = (3 + 5 * np.random.default_rng(0).normal(size=(7, 6))).astype(np.float16)


def network(dtype=jnp.float32, **fields):
    return build_backbone(ConfigDict({"name": "identity", "input_dim": 6, **fields}), dtype)


def applied(module, train=False, key=0):
    variables = module.init(jax.random.key(1), FEATURES, train=False)
    return module.apply(variables, FEATURES, train=train, rngs={"dropout": jax.random.key(key)})


def test_by_default_features_are_themselves_and_nothing_is_trained():
    module = network()
    assert module.init(jax.random.key(1), FEATURES, train=True) == {}
    found = applied(module)
    assert found.dtype == jnp.float32
    assert module.features_dim == 6
    np.testing.assert_array_equal(found, FEATURES.astype(np.float32))


def test_a_layer_norm_takes_away_the_scale():
    found = applied(network(layer_norm=True))
    wide = FEATURES.astype(np.float32)
    expected = (wide - wide.mean(axis=1, keepdims=True)) / wide.std(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_large_half_precision_features_do_not_overflow():
    module = network(layer_norm=True, l2_normalize=True)
    variables = module.init(jax.random.key(1), FEATURES, train=False)
    assert np.isfinite(module.apply(variables, np.float16(2000) * FEATURES, train=False)).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dense_layers_make_the_width(dtype):
    module = network(dtype, hidden_dims=(9, 4))
    found = applied(module)
    assert found.shape == (7, 4)
    assert found.dtype == dtype
    assert module.features_dim == 4
    params = module.init(jax.random.key(1), FEATURES, train=False)["params"]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    assert distances_from_top(params) == {"hidden_0": 1, "hidden_1": 0}


def test_unit_length_is_that_of_each_row_and_nothing_stays_nothing():
    found = applied(network(l2_normalize=True))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    assert not network(l2_normalize=True).apply({}, np.zeros((2, 6), np.float32), train=False).any()


@pytest.mark.parametrize("hidden", [(), (9,)])
def test_dropout_is_of_training_alone(hidden):
    module = network(dropout=0.5, hidden_dims=hidden)
    first, second = (applied(module, train=True, key=key) for key in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(applied(module), applied(network(hidden_dims=hidden)))
    variables = module.init(jax.random.key(1), FEATURES, train=False)
    rngs = {"dropout": jax.random.key(0)}
    off = jax.jit(lambda train: module.apply(variables, FEATURES, train=train, rngs=rngs))(False)
    np.testing.assert_allclose(off, applied(module), atol=1e-6)


def test_unit_length_hides_no_damage():
    features = np.array([[np.nan, 1, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]], np.float32)
    found = network(l2_normalize=True).apply({}, features, train=False)
    assert np.isnan(found[0, 0])
    assert found[1, 0] == 1


@pytest.mark.parametrize("rate", [1.0, 1.5, -0.5])
def test_a_dropout_that_is_no_share_is_an_error(rate):
    with pytest.raises(ValueError, match=rf"config.backbone.dropout is {rate}; it must be in \[0, 1\)"):
        network(dropout=rate)
