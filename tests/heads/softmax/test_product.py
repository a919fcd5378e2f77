"""ProductHead against the materialised Kronecker sum of its heads."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mhe_jax.heads import ProductHead
from mhe_jax.labels import LabelSpace

DIM = 6
SPACES = [LabelSpace(13, (13,)), LabelSpace(37, (8, 5)), LabelSpace(53, (5, 4, 3)), LabelSpace(101, (3, 4, 3, 3))]


def initialised(space, **fields):
    head = ProductHead(space, DIM, **fields)
    return head, head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk")["params"]


def batch(space, size=7):
    features = 3 * jax.random.normal(jax.random.key(1), (size, DIM))
    return features, jax.random.randint(jax.random.key(2), (size,), 0, space.num_classes)


def kronecker(space, flat):
    """Sums of all codes: [..., S] -> [..., num_codes]."""
    total, start = flat[..., :1] * 0, 0
    for size in space.head_sizes:
        part = flat[..., start : start + size]
        total = (total[..., :, None] + part[..., None, :]).reshape(*flat.shape[:-1], -1)
        start += size
    return total


def logits_of_classes(space, params, features, rank=1, num_codes=None):
    """Unnormalised log-probabilities [B, classes] of the sum of `rank` products."""
    flat = (features @ params["kernel"] + params["bias"][None, :]).reshape(features.shape[0], rank, -1)
    return jax.nn.logsumexp(kronecker(space, flat), axis=1)[:, : num_codes or space.num_classes]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize(
    "fields",
    [{}, {"label_smoothing": 0.2}, {"mask_padding": False, "label_smoothing": 0.2}, {"rank": 3}],
    ids=["plain", "smooth", "padding competes", "rank 3"],
)
def test_cross_entropy_is_that_of_the_kronecker_sum(space, fields):
    head, params = initialised(space, **fields)
    features, labels = batch(space)
    competing = space.num_codes if fields.get("mask_padding") is False else space.num_classes
    targets = optax.smooth_labels(jax.nn.one_hot(labels, competing), fields.get("label_smoothing", 0.0))
    weights = jnp.arange(1.0, 8.0)
    rank = fields.get("rank", 1)

    def oracle(params, features):
        logits = logits_of_classes(space, params, features, rank, competing)
        return optax.softmax_cross_entropy(logits, targets) @ weights

    ours = lambda p, x: head.apply({"params": p}, x, labels, method="loss")[0] @ weights
    ours, oracle = (jax.jit(jax.value_and_grad(fn, (0, 1)))(params, features) for fn in (ours, oracle))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), ours, oracle)


@pytest.mark.parametrize(
    ("space", "fields"),
    [
        *((space, {}) for space in SPACES),
        (SPACES[2], {"rank": 2, "num_candidates": 53}),
        (SPACES[1], {"mask_padding": False}),
    ],
    ids=str,
)
def test_topk_and_scores_are_sorted_log_probabilities(space, fields):
    head, params = initialised(space, **fields)
    features, _ = batch(space, 1 if fields else 7)
    log_probs = np.asarray(jax.nn.log_softmax(logits_of_classes(space, params, features, fields.get("rank", 1))))
    order = np.argsort(-log_probs, axis=1)
    for k in (1, space.num_classes):
        scores, ids = jax.jit(lambda x, k=k: head.apply({"params": params}, x, k, method="topk"))(features)
        np.testing.assert_array_equal(ids, order[:, :k])
        np.testing.assert_allclose(scores, np.take_along_axis(log_probs, order[:, :k], axis=1), rtol=1e-4, atol=1e-5)
    again = jax.jit(lambda x, ids: head.apply({"params": params}, x, ids, method="scores"))(features, ids)
    np.testing.assert_allclose(again, scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("objective", ["softmax_concat", "bce_concat"])
def test_concat_objectives_and_their_scores(objective):
    space = LabelSpace(37, (8, 5))
    head, params = initialised(space, objective=objective)
    features, labels = batch(space)
    flat = features @ params["kernel"] + params["bias"][None, :]
    digits = space.encode(labels)
    hot = jnp.concatenate([jax.nn.one_hot(digits[:, 0], 8), jax.nn.one_hot(digits[:, 1], 5)], axis=1)
    if objective == "softmax_concat":
        expected, per_slot = optax.softmax_cross_entropy(flat, hot), jax.nn.log_softmax(flat)
    else:
        expected, per_slot = optax.sigmoid_binary_cross_entropy(flat, hot).mean(axis=1), jax.nn.log_sigmoid(flat)
    np.testing.assert_allclose(head.apply({"params": params}, features, labels, method="loss")[0], expected, rtol=1e-5)
    dense = np.asarray(kronecker(space, per_slot))[:, :37]
    order = np.argsort(-dense, axis=1)
    scores, ids = head.apply({"params": params}, features, 37, method="topk")
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(scores, np.take_along_axis(dense, order, axis=1), rtol=1e-5)
    np.testing.assert_allclose(head.apply({"params": params}, features, ids, method="scores"), scores, rtol=1e-5)


def test_accuracy_counts_examples_with_all_digits_right():
    space = LabelSpace(40, (8, 5))
    head, params = initialised(space)
    features, _ = batch(space)
    best = head.apply({"params": params}, features, 1, method="topk")[1][:, 0]
    labels = best.at[0].set((best[0] + 1) % 40).at[1].set((best[1] + 5) % 40)
    _, metrics = head.apply({"params": params}, features, labels, method="loss")
    np.testing.assert_array_equal(metrics["accuracy"], [0, 0, 1, 1, 1, 1, 1])


def test_negative_labels_give_finite_losses():
    space = LabelSpace(37, (8, 5))
    for objective in ("ce_per_head", "softmax_concat", "bce_concat"):
        head, params = initialised(space, objective=objective)
        assert jnp.isfinite(head.apply({"params": params}, batch(space)[0], jnp.full(7, -1), method="loss")[0]).all()


def test_bfloat16_stays_close_to_float32():
    space = LabelSpace(37, (8, 5))
    features, labels = batch(space)
    results = []
    for dtype in (jnp.float32, jnp.bfloat16):
        head, params = initialised(space, dtype=dtype)
        loss = lambda p, head=head: head.apply({"params": p}, features, labels, method="loss")[0].sum()
        results.append(jax.value_and_grad(loss)(params))
    assert results[1][0].dtype == jnp.float32
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.02 * float(jnp.abs(b).max())), *results[::-1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "mse"}, "config.head.objective is 'mse'; it must be one of ce_per_head"),
        ({"rank": 0}, "config.head.rank is 0"),
        ({"objective": "bce_concat", "rank": 2}, "has neither rank"),
        ({"objective": "softmax_concat", "label_smoothing": 0.1}, "has neither rank"),
        ({"rank": 2, "label_smoothing": 0.1}, "no closed form with rank 2"),
        ({"label_smoothing": 1.0}, "config.head.label_smoothing is 1.0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        initialised(LabelSpace(6, (2, 3)), **fields)
