"""Vectors brought to length 1: the quotient, and what is no direction at all."""

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.ops.lengths import inverse_lengths, safe_normalize


def test_a_vector_that_is_damaged_stays_so():
    for damage in (jnp.nan, jnp.inf):
        unit, norm = safe_normalize(jnp.array([[damage, 1.0], [0.0, 2.0]]))
        assert jnp.isnan(unit[0]).any()
        assert not jnp.isfinite(norm[0])
        assert unit[1].tolist() == [0.0, 1.0]


def test_safe_normalize_is_the_quotient_and_drops_what_has_no_length():
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    for axis in (0, 1, -1):
        unit, norm = safe_normalize(jnp.asarray(x), axis)
        np.testing.assert_allclose(norm, np.linalg.norm(x, axis=axis), rtol=1e-6)
        np.testing.assert_allclose(unit, x / np.linalg.norm(x, axis=axis, keepdims=True), rtol=1e-6)
    short = jnp.array([[0.0, 0.0], [3e-13, 0.0], [3e-12, 4e-12], [3e8, 4e8]])
    unit, norm = safe_normalize(short.astype(jnp.bfloat16).astype(jnp.float32))
    np.testing.assert_allclose(unit, [[0, 0], [0, 0], [0.6, 0.8], [0.6, 0.8]], rtol=1e-2)
    assert not norm[:2].any()
    assert unit.dtype == jnp.float32
    both = lambda x: jnp.concatenate([part.reshape(-1) for part in safe_normalize(x)])
    slope = jax.jit(jax.jacobian(both))
    assert not slope(jnp.zeros(2)).any()
    assert np.isfinite(slope(jnp.array([1e-12, 0.0]))).all()


def test_enormous_vectors_have_a_direction():
    x = jnp.array([[3e19, -4e19], [3e37, 4e37], [1.0, 0.0]])
    unit, norm = jax.jit(safe_normalize)(x)
    np.testing.assert_allclose(unit, [[0.6, -0.8], [0.6, 0.8], [1, 0]], rtol=1e-6)
    np.testing.assert_allclose(norm, [5e19, 5e37, 1], rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: safe_normalize(x)[1].sum()))(x)
    np.testing.assert_allclose(gradient, unit, rtol=1e-5)


def test_inverse_lengths_are_those_of_safe_normalize():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0], [3e-13, 0.0], [3e19, 4e19]])
    np.testing.assert_allclose(inverse_lengths(x), [0.2, 0.0, 0.0, 2e-20], rtol=1e-6)
    assert np.isfinite(jax.jit(jax.grad(lambda x: inverse_lengths(x).sum()))(x[:3])).all()
