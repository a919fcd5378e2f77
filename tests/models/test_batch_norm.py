"""BatchNorm against NumPy's mean and variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mhe_jax.models.layers.batch_norm import BatchNorm


def run(layer, x, train=True):
    variables = layer.init(jax.random.key(0), x, False)
    y, updated = layer.apply(variables, x, train, mutable=["batch_stats"])
    return np.asarray(y), jax.tree.map(np.asarray, updated["batch_stats"])


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(3, 2, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(6, 3, 5, 7), (10, 7)])
def test_normalises_with_the_biased_and_tracks_the_unbiased_variance(shape):
    x = values(*shape)
    y, stats = run(BatchNorm(), x)
    rows = x.reshape(-1, 7).astype(np.float64)
    expected = (x - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(stats["mean"], 0.1 * rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * rows.var(0, ddof=1), rtol=1e-5)


def test_groups_are_normalised_apart_and_the_first_is_tracked():
    x = values(6, 3, 3, 5)
    y, stats = run(BatchNorm(bn_groups=3), x)
    for part in range(3):
        alone, alone_stats = run(BatchNorm(), x[2 * part : 2 * part + 2])
        np.testing.assert_allclose(y[2 * part : 2 * part + 2], alone, atol=1e-6)
        if part == 0:
            np.testing.assert_allclose(stats["mean"], alone_stats["mean"], rtol=1e-6)
            np.testing.assert_allclose(stats["var"], alone_stats["var"], rtol=1e-6)


def test_evaluation_uses_the_running_statistics_and_leaves_them():
    x = values(4, 3, seed=1)
    variables = {
        "params": {"scale": np.float32([1, 2, 3]), "bias": np.float32([0, 1, 0])},
        "batch_stats": {"mean": np.float32([1, 2, 3]), "var": np.float32([4, 1, 9])},
    }
    y, updated = BatchNorm(bn_groups=3).apply(variables, x, False, mutable=["batch_stats"])
    expected = (x - [[1, 2, 3]]) / [[2, 1, 3]] * [[1, 2, 3]] + [[0, 1, 0]]
    np.testing.assert_allclose(y, expected, atol=1e-4)
    np.testing.assert_array_equal(updated["batch_stats"]["mean"], [1, 2, 3])


def test_statistics_are_those_of_the_global_batch_when_it_is_sharded(mesh):
    x = values(16, 3, 3, 5)
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, False)
    step = jax.jit(lambda x: layer.apply(variables, x, True, mutable=["batch_stats"]))
    y, updated = step(jax.device_put(x, NamedSharding(mesh, P(("data", "class")))))
    whole, whole_stats = run(layer, x)
    np.testing.assert_allclose(y, whole, atol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], whole_stats["var"], rtol=1e-5)


def test_statistics_are_float32_and_the_output_in_the_compute_dtype():
    x = jnp.asarray(values(64, 3), jnp.bfloat16)
    y, stats = run(BatchNorm(dtype=jnp.bfloat16), x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(stats["mean"], 0.1 * np.asarray(x, np.float64).mean(0), rtol=1e-5)


@pytest.mark.parametrize(("shape", "groups", "message"), [((6, 3), 4, "bn_groups=4"), ((3, 3), 3, "at least 2 values")])
def test_impossible_groups_are_named(shape, groups, message):
    with pytest.raises(ValueError, match=message):
        run(BatchNorm(bn_groups=groups), values(*shape))
