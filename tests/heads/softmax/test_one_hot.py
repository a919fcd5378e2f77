"""OneHotHead against a dense softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from mhe_jax.heads import OneHotHead
from mhe_jax.heads.base import Context
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
    if "tail_kernel" in params:
        first = {name: params[name] for name in ("kernel", "bias")}
        tail = {name.removeprefix("tail_"): params[name] for name in ("tail_kernel", "tail_bias", "projection")}
        return jnp.concatenate([dense_logits(part, features) for part in (first, tail)], axis=1)
    if "projection" in params:
        features = features @ params["projection"]["kernel"] + params["projection"]["bias"][None, :]
    return features @ params["kernel"][:CLASSES].T + (params["bias"][None, :CLASSES] if "bias" in params else 0.0)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"block_size": 10, "label_smoothing": 0.1},
        {"use_bias": False},
        {"bottleneck": 3, "block_size": 10},
        {"bottleneck": 3, "frequent": 1},
        {"bottleneck": 3, "frequent": 20, "block_size": 7, "label_smoothing": 0.1},
        {"bottleneck": 3, "frequent": CLASSES - 1},
    ],
    ids=["plain", "smooth", "no bias", "bottleneck", "one frequent", "frequent", "all but one"],
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


@pytest.mark.parametrize(
    ("size", "bottleneck", "frequent"), [(1, 0, 0), (7, 0, 0), (7, 3, 0), (7, 3, 1), (7, 3, 20), (1, 3, CLASSES - 1)]
)
@pytest.mark.parametrize("k", [1, 5, CLASSES])
def test_topk_and_scores_are_sorted_log_probabilities(size, bottleneck, frequent, k):
    head, params = initialised(block_size=8, bottleneck=bottleneck, frequent=frequent)
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


@pytest.mark.parametrize("frequent", [1, 20, CLASSES - 1])
def test_frequent_classes_against_a_softmax_in_float64(frequent, mesh):
    """Tables on devices, most with rows of padding: the loss and its gradients, and the best classes."""
    head = OneHotHead(LabelSpace(CLASSES, (CLASSES,)), DIM, frequent=frequent, bottleneck=3, block_size=4)
    params = meta.unbox(head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk"))["params"]
    features, labels = batch(16)

    @jax.jit
    def run(params, features):
        loss = lambda p, x: head.apply({"params": p}, x, labels, method="loss")[0].sum()
        return jax.value_and_grad(loss, (0, 1))(params, features), head.apply(
            {"params": params}, features, CLASSES, method="topk"
        )

    (value, (grads, d_features)), (scores, ids) = jax.tree.map(np.asarray, run(params, features))
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x, projection = np.asarray(features, np.float64), wide["projection"]
    y = x @ projection["kernel"] + projection["bias"]
    tables = [(wide["kernel"], wide["bias"], frequent), (wide["tail_kernel"], wide["tail_bias"], CLASSES - frequent)]
    parts = [query @ table[:n].T + bias[:n] for query, (table, bias, n) in zip((x, y), tables, strict=True)]
    logits = np.concatenate(parts, axis=1)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(value, -log_probs[np.arange(16), labels].sum(), rtol=1e-6)
    d_logits = np.exp(log_probs) - np.eye(CLASSES)[np.asarray(labels)]
    d_first, d_tail = d_logits[:, :frequent], d_logits[:, frequent:]
    d_y = d_tail @ tables[1][0][: CLASSES - frequent]
    expected = {
        "kernel": d_first.T @ x,
        "bias": d_first.sum(axis=0),
        "tail_kernel": d_tail.T @ y,
        "tail_bias": d_tail.sum(axis=0),
        "projection": {"kernel": x.T @ d_y, "bias": d_y.sum(axis=0)},
    }
    rows = jax.tree.map(lambda ours, theirs: ours[: len(theirs)], grads, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), rows, expected)
    np.testing.assert_allclose(
        d_features, d_first @ tables[0][0][:frequent] + d_y @ projection["kernel"].T, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(ids, np.argsort(-logits, axis=1))
    np.testing.assert_allclose(scores, -np.sort(-log_probs, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frequent": -1, "bottleneck": 3}, r"config.head.frequent is -1; of 53 classes it must be in 1 \.\. 52, or 0"),
        ({"frequent": 53, "bottleneck": 3}, r"config.head.frequent is 53; of 53 classes it must be in 1 \.\. 52, or 0"),
        ({"frequent": 5}, "config.head.frequent is 5, but bottleneck is 0: it must be the width of the other classes'"),
    ],
)
def test_impossible_numbers_of_frequent_classes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        initialised(**fields)


def test_frequent_classes_have_a_table_of_their_own():
    head, params = initialised(bottleneck=3, frequent=20)
    projection = {"kernel": (DIM, 3), "bias": (3,)}
    shapes = {"kernel": (20, DIM), "bias": (20,), "tail_kernel": (33, 3), "tail_bias": (33,), "projection": projection}
    assert jax.tree.map(jnp.shape, params) == shapes
    assert head.owned_tables() == ("kernel", "tail_kernel")
    assert float(jnp.abs(params["kernel"]).max()) <= DIM**-0.5 < float(jnp.abs(params["tail_kernel"]).max())


@pytest.mark.parametrize("fields", [{"block_size": 10}, {"bottleneck": 3, "frequent": 20}, {"use_bias": False}])
def test_bce_is_the_mean_over_sigmoids_of_all_classes(fields, mesh):
    head, params = initialised(objective="bce", **fields)
    features, labels = batch(16)
    ours = lambda p, x: head.apply({"params": p}, x, labels, method="loss")[0].sum()
    value, gradients = jax.tree.map(np.asarray, jax.jit(jax.value_and_grad(ours, (0, 1)))(params, features))
    hot = jax.nn.one_hot(labels, CLASSES)
    oracle = lambda p, x: optax.sigmoid_binary_cross_entropy(whole_logits(p, x), hot).mean(axis=1).sum()
    expected = jax.tree.map(
        np.asarray, jax.value_and_grad(oracle, (0, 1))(jax.device_get(params), np.asarray(features))
    )
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), gradients, expected[1])


def whole_logits(params, features):
    """`dense_logits` of tables that may have rows of padding."""
    first = CLASSES if "tail_kernel" not in params else 20
    sizes = {"kernel": first, "bias": first, "tail_kernel": CLASSES - first, "tail_bias": CLASSES - first}
    return dense_logits(
        {name: part[: sizes[name]] if name in sizes else part for name, part in params.items()}, features
    )


def test_scores_of_bce_are_those_of_the_softmax():
    head, params = initialised(objective="bce")
    features, _ = batch()
    scores, ids = head.apply({"params": params}, features, 4, method="topk")
    expected = jax.nn.log_softmax(dense_logits(params, features))
    np.testing.assert_allclose(scores, jnp.take_along_axis(expected, ids, axis=1), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "mse"}, "config.head.objective is 'mse'; it must be one of softmax, bce"),
        ({"objective": "bce", "label_smoothing": 0.1}, "config.head.label_smoothing is 0.1, which objective 'bce' has"),
    ],
)
def test_impossible_objectives_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        initialised(**fields)


def test_bce_takes_neither_soft_labels_nor_an_adjustment():
    head, params = initialised(objective="bce")
    features, labels = batch()
    soft = labels[:, None], Context(targets=jnp.ones((7, 1)))
    with pytest.raises(ValueError, match="objective 'bce' takes no soft labels, and no teacher: use 'softmax'"):
        head.apply({"params": params}, features, *soft, method="loss")
    with pytest.raises(ValueError, match="config.head.objective 'bce' has no softmax to adjust"):
        head.adjustment(np.zeros(CLASSES))


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
