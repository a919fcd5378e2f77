"""Blocked sigmoid cross-entropy against the dense one, at sizes that no block divides."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from mhe_jax.ops.blocked_bce import blocked_bce

BLOCKS = [1, 5, 16, 53, 64, 0]


def problem(batch=7, classes=53, dim=6, width=5, seed=0):
    """Rows with 0 .. width labels in any places; the last 4 classes are masked."""
    keys = jax.random.split(jax.random.key(seed), 3)
    features = jax.random.normal(keys[0], (batch, dim))
    kernel = jax.random.normal(keys[1], (classes, dim))
    bias = jax.random.normal(keys[2], (classes,))
    rng = np.random.default_rng(seed)
    labels = np.full((batch, width), -1, np.int32)
    for row in range(batch):
        count = row % (width + 1)
        places = rng.choice(width, count, replace=False)
        labels[row, places] = rng.choice(classes - 4, count, replace=False)
    labels[-1, 0] = classes - 5  # in the last block, which is shifted back
    return features, kernel, bias, jnp.asarray(labels), jnp.arange(classes) < classes - 4


def dense(features, kernel, bias, labels, mask):
    logits = features @ kernel.T + (0.0 if bias is None else bias[None, :])
    hot = (labels[:, :, None] == jnp.arange(kernel.shape[0])[None, None, :]).any(axis=1)
    return jnp.where(mask[None, :], optax.sigmoid_binary_cross_entropy(logits, hot), 0.0).sum(axis=1)


def weighted(fn, labels, mask, **options):
    def value(features, kernel, bias):
        loss = fn(features, kernel, bias, labels, mask, **options)
        return loss @ jnp.arange(1.0, 1.0 + loss.shape[0])

    return value


@pytest.mark.parametrize(("block_size", "use_bias"), [*((size, True) for size in BLOCKS), (16, False)])
def test_values_and_gradients_equal_the_dense_ones(block_size, use_bias):
    features, kernel, bias, labels, mask = problem()
    bias = bias if use_bias else None
    argnums = (0, 1, 2) if use_bias else (0, 1)
    ours = jax.jit(blocked_bce, static_argnums=6)(features, kernel, bias, labels, mask, None, block_size)
    np.testing.assert_allclose(ours, dense(features, kernel, bias, labels, mask), rtol=1e-5)
    value = weighted(blocked_bce, labels, mask, block_size=block_size)
    ours = jax.jit(jax.grad(value, argnums))(features, kernel, bias)
    oracle = jax.grad(weighted(dense, labels, mask), argnums)(features, kernel, bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5), ours, oracle)


def test_gradients_are_numerically_right():
    features, kernel, bias, labels, mask = problem(batch=3, classes=11, width=2)
    value = weighted(blocked_bce, labels, mask, block_size=4)
    check_grads(jax.jit(value), (features, kernel, bias), order=1, modes=["rev"], rtol=2e-2)


def test_a_batch_of_one():
    features, kernel, bias, labels, mask = problem()
    whole = blocked_bce(features, kernel, bias, labels, mask)
    single = [blocked_bce(features[i : i + 1], kernel, bias, labels[i : i + 1], mask)[0] for i in range(7)]
    np.testing.assert_allclose(single, whole, rtol=1e-6)


def test_without_its_value_the_gradient_is_the_same():
    features, kernel, bias, labels, mask = problem()

    @jax.jit
    def run(wanted):
        value = weighted(blocked_bce, labels, mask, want_value=wanted, block_size=16)
        return jax.value_and_grad(value, (0, 1, 2))(features, kernel, bias)

    skipped, wanted = run(jnp.array(False)), run(jnp.array(True))
    always = jax.value_and_grad(weighted(blocked_bce, labels, mask, block_size=16), (0, 1, 2))(features, kernel, bias)
    assert skipped[0] == 0
    np.testing.assert_allclose(wanted[0], always[0], rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, skipped[1], wanted[1])


def test_no_array_of_batch_times_classes_exists():
    features, kernel, bias, labels, mask = problem(batch=12, classes=211)
    value = weighted(blocked_bce, labels, mask, want_value=jnp.array(True), block_size=16)
    jaxpr = jax.make_jaxpr(jax.value_and_grad(value, (0, 1, 2)))(features, kernel, bias)
    sizes = {variable.aval.size for variable in variables(jaxpr.jaxpr)}
    assert 12 * 16 in sizes
    assert max(sizes) == kernel.size  # 211 * 6, half of 12 * 211


def variables(jaxpr):
    for equation in jaxpr.eqns:
        yield from equation.outvars
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from variables(inner)


def test_large_logits_stay_finite():
    features, kernel, bias, labels, mask = problem()
    ours = blocked_bce(1e4 * features, kernel, bias, labels, mask, block_size=8)
    np.testing.assert_allclose(ours, dense(1e4 * features, kernel, bias, labels, mask), rtol=1e-5)
    gradient = jax.grad(lambda x: blocked_bce(x, kernel, bias, labels, mask).sum())(1e4 * features)
    assert jnp.isfinite(gradient).all()


def test_bfloat16_subtracts_the_target_before_it_rounds():
    """A confident and true label has a small gradient, not one that is lost between two numbers near 1."""
    features, kernel = jnp.ones((1, 1), jnp.bfloat16), jnp.array([[7.0]])
    gradient = jax.grad(lambda w: blocked_bce(features, w, None, jnp.zeros((1, 1), jnp.int32), jnp.ones(1, bool))[0])
    assert float(gradient(kernel)[0, 0]) == pytest.approx(float(jax.nn.sigmoid(7.0)) - 1, rel=1e-2)
    assert gradient(kernel).dtype == jnp.float32
