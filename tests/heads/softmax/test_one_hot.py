"""OneHotHead against a dense softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from mhe_jax.heads import OneHotHead
from mhe_jax.labels import LabelSpace

CLASSES, DIM = 53, 6


def initialised(**fields):
    head = OneHotHead(LabelSpace(CLASSES, (CLASSES,)), DIM, **fields)
    params = meta.unbox(head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk"))["params"]
    return head, params


def batch(size=7):
    features = jax.random.normal(jax.random.key(1), (size, DIM))
    return features, jax.random.randint(jax.random.key(2), (size,), 0, CLASSES)


def dense_logits(params, features):
    if "projection" in params:
        features = features @ params["projection"]["kernel"] + params["projection"]["bias"][None, :]
    return features @ params["kernel"][:CLASSES].T + (params["bias"][None, :CLASSES] if "bias" in params else 0.0)


@pytest.mark.parametrize(
    "fields",
    [{}, {"block_size": 10, "label_smoothing": 0.1}, {"use_bias": False}, {"bottleneck": 3, "block_size": 10}],
    ids=["plain", "smooth", "no bias", "bottleneck"],
)
def test_loss_and_gradients_equal_a_dense_softmax(fields):
    head, params = initialised(**fields)
    features, labels = batch()
    targets = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES), fields.get("label_smoothing", 0.0))
    weights = jnp.arange(1.0, 8.0)
    ours = lambda p, x: head.apply({"params": p}, x, labels, method="loss")[0] @ weights
    oracle = lambda p, x: optax.softmax_cross_entropy(dense_logits(p, x), targets) @ weights
    ours, oracle = (jax.jit(jax.value_and_grad(fn, (0, 1)))(params, features) for fn in (ours, oracle))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, oracle)


@pytest.mark.parametrize(("size", "bottleneck"), [(1, 0), (7, 0), (7, 3)])
@pytest.mark.parametrize("k", [1, 5, CLASSES])
def test_topk_and_scores_are_sorted_log_probabilities(size, bottleneck, k):
    head, params = initialised(block_size=8, bottleneck=bottleneck)
    features, _ = batch(size)
    log_probs = np.asarray(jax.nn.log_softmax(dense_logits(params, features)))
    scores, ids = jax.jit(lambda x: head.apply({"params": params}, x, k, method="topk"))(features)
    order = np.argsort(-log_probs, axis=1)[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(scores, np.take_along_axis(log_probs, order, axis=1), rtol=1e-5)
    np.testing.assert_allclose(head.apply({"params": params}, features, ids, method="scores"), scores, rtol=1e-5)


def test_padding_rows_of_a_sharded_table_are_zero_and_leave_the_values_alone():
    _, params = initialised()
    mesh = jax.make_mesh((1, 8), ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        variables = OneHotHead(LabelSpace(CLASSES, (CLASSES,)), DIM).init(
            jax.random.key(0), method=lambda module: module.kernel
        )
    assert variables["params"]["kernel"].names == ("class", None)
    assert variables["params"]["bias"].names == ("class",)
    sharded = meta.unbox(variables)["params"]
    assert sharded["kernel"].shape == (56, DIM)
    np.testing.assert_array_equal(sharded["kernel"][:CLASSES], params["kernel"])
    np.testing.assert_array_equal(sharded["bias"][:CLASSES], params["bias"])
    assert not sharded["kernel"][CLASSES:].any()
    assert not sharded["bias"][CLASSES:].any()


def test_initial_values_are_those_of_a_torch_linear_layer():
    _, params = initialised()
    for leaf in params.values():
        assert float(jnp.abs(leaf).max()) <= DIM**-0.5
        assert float(leaf.std()) == pytest.approx((DIM * 3) ** -0.5, rel=0.2)


def test_a_bottleneck_narrows_the_table_and_stays_out_of_what_is_owned():
    head, params = initialised(bottleneck=3)
    shapes = {"kernel": (CLASSES, 3), "bias": (CLASSES,), "projection": {"kernel": (DIM, 3), "bias": (3,)}}
    assert jax.tree.map(jnp.shape, params) == shapes
    assert head.owned_tables() == ("kernel",)
    assert float(jnp.abs(params["kernel"]).max()) <= 3**-0.5
    assert set(initialised(bottleneck=3, use_bias=False)[1]["projection"]) == {"kernel"}
    with pytest.raises(ValueError, match="config.head.bottleneck is -1; it must be at least 0"):
        initialised(bottleneck=-1)


def test_negative_labels_give_finite_losses_and_gradients():
    head, params = initialised()
    features, _ = batch()
    loss = lambda x: head.apply({"params": params}, x, jnp.full(7, -1), method="loss")[0].sum()
    value, gradient = jax.value_and_grad(loss)(features)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


def test_bfloat16_stays_close_to_float32():
    features, labels = batch(64)
    results = []
    for dtype in (jnp.float32, jnp.bfloat16):
        head, params = initialised(dtype=dtype)
        results.append(head.apply({"params": params}, features, labels, method="loss")[0])
        assert all(leaf.dtype == jnp.float32 for leaf in params.values())
    assert results[1].dtype == jnp.float32
    np.testing.assert_allclose(results[1], results[0], atol=0.03)
