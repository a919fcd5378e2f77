"""Blocked softmax statistics and top-k against dense ones, at sizes that no block divides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mhe_jax.ops import chunked
from mhe_jax.ops.chunked import blocked_lse, blocked_topk

BLOCKS = [1, 5, 16, 53, 64, 0]


def problem(batch=7, classes=53, dim=6, seed=0, masked=True):
    keys = jax.random.split(jax.random.key(seed), 5)
    features = jax.random.normal(keys[0], (batch, dim))
    kernel = jax.random.normal(keys[1], (classes, dim))
    bias = jax.random.normal(keys[2], (classes,))
    mask = jax.random.bernoulli(keys[3], 0.7, (classes,)) if masked else jnp.ones(classes, bool)
    labels = jax.random.randint(keys[4], (batch,), 0, classes)
    return features, kernel, bias, labels, mask


def dense(features, kernel, bias, labels, mask):
    logits = features @ kernel.T + (0.0 if bias is None else bias[None, :])
    lse = jax.nn.logsumexp(jnp.where(mask[None, :], logits, -jnp.inf), axis=1)
    at = jnp.clip(labels, 0, kernel.shape[0] - 1)
    target = jnp.take_along_axis(logits, at[:, None], axis=1)[:, 0]
    target = jnp.where((labels >= 0) & (labels < kernel.shape[0]), target, 0.0)
    return lse, target, jnp.where(mask[None, :], logits, 0.0).sum(axis=1)


def weighted(fn, labels, mask):
    """One number in which all three results count differently, as a function of the differentiable inputs."""

    def value(features, kernel, bias):
        lse, target, total = fn(features, kernel, bias, labels, mask)
        weights = jnp.arange(1.0, 1.0 + lse.shape[0])
        return (weights * (lse - 0.8 * target + 0.03 * total)).sum()

    return value


@pytest.mark.parametrize(("block_size", "use_bias"), [*((size, True) for size in BLOCKS), (16, False)])
def test_values_and_gradients_equal_the_dense_ones(block_size, use_bias):
    features, kernel, bias, labels, mask = problem()
    bias = bias if use_bias else None
    labels = labels.at[0].set(-1).at[1].set(53)  # outside: no target
    argnums = (0, 1, 2) if use_bias else (0, 1)
    blocked = lambda *args: blocked_lse(*args, block_size, with_total=True)
    for ours, oracle in zip(
        jax.jit(blocked)(features, kernel, bias, labels, mask), dense(features, kernel, bias, labels, mask), strict=True
    ):
        np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=1e-5)
    ours = jax.jit(jax.grad(weighted(blocked, labels, mask), argnums))(features, kernel, bias)
    oracle = jax.grad(weighted(dense, labels, mask), argnums)(features, kernel, bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5), ours, oracle)


def test_gradients_are_numerically_right():
    features, kernel, bias, labels, mask = problem(batch=3, classes=11)
    value = weighted(lambda *args: blocked_lse(*args, 4, with_total=True), labels, mask)
    check_grads(jax.jit(value), (features, kernel, bias), order=1, modes=["rev"], rtol=2e-2)


def test_the_sum_is_only_computed_when_asked_for():
    args = problem()
    assert not blocked_lse(*args, 16)[2].any()
    assert blocked_lse(*args, 16, with_total=True)[2].all()


def test_a_masked_label_keeps_its_logit():
    features, kernel, bias, labels, _ = problem()
    mask = jnp.ones(53, bool).at[labels[0]].set(False)
    ours, oracle = blocked_lse(features, kernel, bias, labels, mask, 5), dense(features, kernel, bias, labels, mask)
    np.testing.assert_allclose(ours[1], oracle[1], rtol=1e-5, atol=1e-5)


def test_all_rows_masked_gives_no_nan():
    features, kernel, bias, labels, _ = problem()
    mask = jnp.zeros(53, bool)
    assert (blocked_lse(features, kernel, bias, labels, mask, 16)[0] == -jnp.inf).all()
    value = lambda *args: blocked_lse(*args, labels, mask, 16)[0].sum()
    for gradient in jax.grad(value, (0, 1, 2))(features, kernel, bias):
        assert not gradient.any()


def test_large_logits_neither_overflow_nor_lose_the_small_ones():
    features, kernel, bias, labels, mask = problem(masked=False)
    bias = bias.at[40].set(3e4)  # far above all that came in earlier blocks
    ours, oracle = blocked_lse(features, kernel, bias, labels, mask, 8), dense(features, kernel, bias, labels, mask)
    np.testing.assert_allclose(ours[0], oracle[0], rtol=1e-6)
    assert jnp.isfinite(jax.grad(lambda x: blocked_lse(x, kernel, bias, labels, mask, 8)[0].sum())(features)).all()


def test_a_logit_that_rounding_put_above_its_log_sum_exp_has_a_finite_gradient():
    """Where the backward pass computes a logit of 1e20 again, its last digit, worth 1e13, may come out differently."""
    features, kernel, bias, labels, mask = problem(masked=False)
    features, kernel = 1e10 * features, 1e10 * kernel
    lse, _, _ = blocked_lse(features, kernel, bias, labels, mask, 16)
    below = lse * jnp.float32(1 - 1e-6)
    ones, zeros = jnp.ones(7), jnp.zeros(7)
    residuals = features, kernel, bias, labels, mask, None, None, below, None
    d_features, d_kernel, d_bias, *_ = chunked._blocked_lse_backward(16, False, residuals, (ones, zeros, zeros))
    np.testing.assert_allclose(d_features, kernel[jnp.argmax(features @ kernel.T, axis=1)], rtol=1e-6)
    np.testing.assert_allclose(d_bias.sum(), 7)
    assert jnp.isfinite(d_kernel).all()


def test_few_logits_are_kept_for_the_backward_pass(monkeypatch):
    features, kernel, bias, labels, mask = problem()
    loss = lambda *tensors: blocked_lse(*tensors, labels, mask)[0].sum()
    grad = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    products = lambda: (
        jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(features, kernel, bias).as_text().count("dot_general")
    )
    kept, found = products(), grad(features, kernel, bias)
    monkeypatch.setattr(chunked.blocks, "_BLOCK_FLOATS", 32 * len(features))
    jax.clear_caches()
    assert products() == kept + 1
    again = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(features, kernel, bias)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_bfloat16_features_accumulate_in_float32():
    features, kernel, bias, labels, mask = problem(batch=64, classes=211, dim=128)
    kernel = kernel / jnp.sqrt(128)
    low = features.astype(jnp.bfloat16)
    rounded = kernel.astype(jnp.bfloat16).astype(jnp.float32)
    lse, target, _ = blocked_lse(low, kernel, bias, labels, mask, 32)
    exact = dense(low.astype(jnp.float32), rounded, bias, labels, mask)
    # Only the inputs are rounded: products of bfloat16 values added up in float32 are good to float32.
    np.testing.assert_allclose(lse, exact[0], rtol=1e-5)
    np.testing.assert_allclose(target, exact[1], rtol=1e-4, atol=1e-5)
    value = lambda fn, x, w, **options: (lambda out: (out[0] - out[1]).sum())(fn(x, w, bias, labels, mask, **options))
    ours = jax.grad(lambda x, w: value(blocked_lse, x, w, block_size=32), (0, 1))(low, kernel)
    oracle = jax.grad(lambda x, w: value(dense, x, w), (0, 1))(low.astype(jnp.float32), rounded)
    assert ours[0].dtype == jnp.bfloat16
    assert ours[1].dtype == jnp.float32
    for a, b in zip(ours, oracle, strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=1e-2 * float(jnp.abs(b).max()))


def test_no_array_of_batch_times_classes_exists():
    features, kernel, bias, labels, mask = problem(batch=12, classes=211)
    value = weighted(lambda *args: blocked_lse(*args, 16, with_total=True), labels, mask)
    jaxpr = jax.make_jaxpr(jax.value_and_grad(value, (0, 1, 2)))(features, kernel, bias)
    sizes = {variable.aval.size for variable in variables(jaxpr.jaxpr)}
    assert 12 * 16 in sizes
    assert max(sizes) == kernel.size  # 211 * 6, half of 12 * 211
    peak = lambda block: (
        jax.jit(jax.value_and_grad(weighted(lambda *args: blocked_lse(*args, block), labels, mask)))
        .lower(features, kernel, bias)
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
    )
    assert peak(16) < peak(211) / 2


def variables(jaxpr):
    for equation in jaxpr.eqns:
        yield from equation.outvars
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from variables(inner)


@pytest.mark.parametrize(("block_size", "k"), [(1, 7), (5, 1), (5, 20), (16, 7), (53, 20), (0, 7)])
def test_topk_equals_sorting(block_size, k):
    features, kernel, bias, _, mask = problem()
    logits, ids, lse = jax.jit(blocked_topk, static_argnums=(4, 5))(features, kernel, bias, mask, k, block_size)
    everything = np.where(mask[None, :], features @ kernel.T + bias[None, :], -np.inf)
    order = np.argsort(-everything, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(logits, np.take_along_axis(everything, order, axis=1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(lse, jax.nn.logsumexp(everything, axis=1), rtol=1e-5)


@pytest.mark.parametrize("block_size", [4, 0])
def test_topk_ties_go_to_the_lower_id_and_missing_rows_are_marked(block_size):
    mask = jnp.arange(11) % 2 == 1
    logits, ids, lse = blocked_topk(jnp.zeros((1, 3)), jnp.ones((11, 3)), None, mask, 7, block_size)
    np.testing.assert_array_equal(ids, [[1, 3, 5, 7, 9, -1, -1]])
    np.testing.assert_array_equal(logits, [[0.0] * 5 + [-np.inf] * 2])
    np.testing.assert_allclose(lse, [np.log(5)], rtol=1e-6)
