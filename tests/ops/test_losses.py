"""Losses against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mhe_jax.ops import losses


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_masked_cross_entropy_equals_that_of_the_remaining_classes(smoothing):
    logits = jax.random.normal(jax.random.key(0), (5, 7))
    mask = jnp.array([True, False, True, True, False, True, True])
    kept = np.flatnonzero(mask)
    place = np.array([0, 1, 2, 3, 4])
    ours = losses.softmax_cross_entropy(logits, jnp.asarray(kept[place]), mask[None, :].repeat(5, 0), smoothing)
    targets = optax.smooth_labels(jax.nn.one_hot(place, 5), smoothing)
    np.testing.assert_allclose(ours, optax.softmax_cross_entropy(logits[:, kept], targets), rtol=1e-5)


def test_masked_cross_entropy_has_finite_gradients_and_none_at_masked_classes():
    mask = jnp.array([[True, False, True]])
    gradient = jax.grad(lambda x: losses.softmax_cross_entropy(x, jnp.array([2]), mask, 0.1).sum())(jnp.ones((1, 3)))
    np.testing.assert_allclose(gradient, [[0.45, 0.0, -0.45]], atol=1e-6)


def test_concat_losses_equal_their_definitions():
    logits = 3 * jax.random.normal(jax.random.key(1), (4, 9))
    slots = jnp.array([[0, 4, 8], [1, 3, 5], [2, 4, 7], [0, 3, 6]])
    hot = jax.nn.one_hot(slots, 9).sum(axis=1)
    np.testing.assert_allclose(
        losses.softmax_concat(logits, slots), optax.softmax_cross_entropy(logits, hot), rtol=1e-5
    )
    bce = optax.sigmoid_binary_cross_entropy(logits, hot).mean(axis=1)
    np.testing.assert_allclose(losses.bce_concat(logits, slots), bce, rtol=1e-5)
