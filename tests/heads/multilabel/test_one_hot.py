"""MultiLabelOneHotHead against a dense layer of sigmoids."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from mhe_jax.heads import MultiLabelOneHotHead
from mhe_jax.heads.base import Context
from mhe_jax.labels import LabelSpace

CLASSES, DIM = 53, 6


def initialised(**fields):
    head = MultiLabelOneHotHead(LabelSpace(CLASSES, (CLASSES,)), DIM, **fields)
    shapes = jax.eval_shape(lambda: head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk"))
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, dtype=np.float32))
    return head, jax.tree.map(draw, meta.unbox(shapes)["params"])


def batch():
    """Rows of 0 .. 6 labels."""
    rng = np.random.default_rng(1)
    labels = np.full((7, 6), -1, np.int32)
    for row in range(7):
        labels[row, rng.permutation(6)[:row]] = rng.choice(CLASSES, row, replace=False)
    return jnp.asarray(rng.standard_normal((7, DIM), dtype=np.float32)), jnp.asarray(labels)


def dense_logits(params, features):
    if "tail_kernel" in params:
        first = {name: params[name] for name in ("kernel", "bias")}
        tail = {name.removeprefix("tail_"): params[name] for name in ("tail_kernel", "tail_bias", "projection")}
        return jnp.concatenate([dense_logits(part, features) for part in (first, tail)], axis=1)
    if "projection" in params:
        features = features @ params["projection"]["kernel"] + params["projection"]["bias"][None, :]
    return features @ params["kernel"].T + (params["bias"][None, :] if "bias" in params else 0.0)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"block_size": 10, "reduction": "mean"},
        {"use_bias": False},
        {"bottleneck": 3},
        *({"bottleneck": 3, "frequent": number, "reduction": "mean"} for number in (1, 20, CLASSES - 1)),
    ],
    ids=["sum", "mean", "no bias", "bottleneck", "one frequent", "frequent", "all but one"],
)
def test_loss_and_gradients_equal_dense_sigmoids(fields):
    head, params = initialised(**fields)
    features, labels = batch()
    hot = jax.nn.one_hot(labels, CLASSES).sum(axis=1)
    weights = jnp.arange(1.0, 8.0) / (CLASSES if fields.get("reduction") == "mean" else 1)
    ours = lambda p, x: head.apply({"params": p}, x, labels, method="loss")[0] @ jnp.arange(1.0, 8.0)
    oracle = lambda p, x: optax.sigmoid_binary_cross_entropy(dense_logits(p, x), hot).sum(axis=1) @ weights
    ours, oracle = (jax.jit(jax.value_and_grad(fn, (0, 1)))(params, features) for fn in (ours, oracle))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, oracle)


def test_without_its_value_the_gradient_is_the_same():
    head, params = initialised(reduction="mean")
    features, labels = batch()
    loss = lambda p, wanted: head.apply({"params": p}, features, labels, Context(want_value=wanted), method="loss")[
        0
    ].sum()
    run = jax.jit(jax.value_and_grad(loss))
    (skipped, gradient), (value, expected) = run(params, jnp.array(False)), run(params, jnp.array(True))
    assert skipped == 0
    assert value > 0
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)


@pytest.mark.parametrize("fields", [{}, *({"bottleneck": 3, "frequent": number} for number in (1, 20, CLASSES - 1))])
@pytest.mark.parametrize("k", [1, 5, CLASSES])
def test_topk_and_scores_are_log_probabilities_of_the_labels(k, fields):
    head, params = initialised(block_size=8, **fields)
    features, _ = batch()
    log_probs = np.asarray(jax.nn.log_sigmoid(dense_logits(params, features)))
    scores, ids = jax.jit(lambda x: head.apply({"params": params}, x, k, method="topk"))(features)
    order = np.argsort(-log_probs, axis=1)[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(scores, np.take_along_axis(log_probs, order, axis=1), rtol=1e-5)
    again = jax.jit(lambda x: head.apply({"params": params}, x, ids, method="scores"))(features)
    np.testing.assert_allclose(again, scores, rtol=1e-5)


def test_biases_start_around_the_log_odds_of_the_prior():
    for prior, middle in ((0.0, 0.0), (0.01, np.log(0.01 / 0.99))):
        head = MultiLabelOneHotHead(LabelSpace(CLASSES, (CLASSES,)), DIM, prior=prior)
        bias = meta.unbox(head.init(jax.random.key(0), method=lambda module: module.bias))["params"]["bias"]
        assert float(jnp.abs(bias - middle).max()) <= DIM**-0.5
        assert float(bias.std()) > 0.1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reduction": "none"}, "config.head.reduction is 'none'; it must be mean or sum"),
        ({"prior": 1.0}, "config.head.prior is 1.0; it must be in"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        initialised(**fields)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_ignored_labels_are_in_no_sum(reduction):
    head, params = initialised(reduction=reduction)
    features, labels = batch()
    rng = np.random.default_rng(2)
    ignored = np.full((7, 3), -1, np.int32)
    for row in range(1, 7):
        others = np.setdiff1d(np.arange(CLASSES), labels[row])
        ignored[row, : row % 4] = rng.choice(others, row % 4, replace=False)

    def dense(params, features):
        logits = dense_logits(params, features)
        named = lambda ids: (ids[:, :, None] == jnp.arange(CLASSES)[None, None, :]).any(axis=1)
        targets, counted = named(labels), ~named(jnp.asarray(ignored))
        each = optax.sigmoid_binary_cross_entropy(logits, targets.astype(jnp.float32))
        total = (each * counted).sum(axis=1)
        return total / CLASSES if reduction == "mean" else total

    def own(params, features):
        return head.apply({"params": params}, features, labels, Context(ignored=jnp.asarray(ignored)), method="loss")[0]

    np.testing.assert_allclose(own(params, features), dense(params, features), rtol=2e-5, atol=1e-5)
    wanted, found = (jax.grad(lambda p, x, f=f: f(p, x).sum(), argnums=(0, 1))(params, features) for f in (dense, own))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)


def test_a_prior_without_biases_is_an_error():
    with pytest.raises(ValueError, match="config.head.prior is 0.01, but config.head.use_bias is False"):
        initialised(prior=0.01, use_bias=False)
