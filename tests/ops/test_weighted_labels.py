"""Labels that count by degrees: the blocked losses, and those of candidates, against dense ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mhe_jax.ops import losses, multilabel
from mhe_jax.ops.blocked_bce import blocked_bce
from mhe_jax.ops.chunked import blocked_lse


def problem(batch=5, classes=23, dim=4, width=4, seed=0):
    """Distinct labels, with places of none; targets and weights that differ; the last class is masked."""
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.choice(classes - 1, width, replace=False) for _ in range(batch)])
    labels[0, 2:] = -1
    numbers = [rng.normal(size=shape) for shape in ((batch, dim), (classes, dim), (classes,))]
    arrays = [jnp.asarray(array, jnp.float32) for array in numbers]
    targets, weights = rng.uniform(size=(2, batch, width)).astype(np.float32)
    return (
        arrays,
        jnp.asarray(labels),
        jnp.arange(classes) < classes - 1,
        jnp.asarray(targets),
        3 * jnp.asarray(weights),
    )


def scattered(labels, values, classes, usual=0.0):
    """Values [B, W] at the labels of a dense [B, classes]."""
    at = jnp.where(labels < 0, classes, labels)
    return jax.vmap(lambda row, value: jnp.full(classes, usual).at[row].set(value, mode="drop"))(at, values)


def weighted_bce(logits, targets, weights):
    """The weights are those of the positive part alone."""
    return -weights * targets * jax.nn.log_sigmoid(logits) - (1 - targets) * jax.nn.log_sigmoid(-logits)


def dense_logits(features, kernel, bias):
    return features @ kernel.T + bias[None, :]


def assert_same(ours, oracle, arrays):
    each = jnp.arange(1.0, 1.0 + arrays[0].shape[0])
    np.testing.assert_allclose(ours(*arrays), oracle(*arrays), rtol=1e-5)
    gradients = [jax.grad(lambda *a, fn=fn: fn(*a) @ each, (0, 1, 2))(*arrays) for fn in (ours, oracle)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), *gradients)


@pytest.mark.parametrize("block_size", [7, 64])
def test_the_softmax_of_weighted_labels(block_size):
    arrays, labels, mask, weights, _ = problem()

    def ours(features, kernel, bias):
        lse, target, _ = blocked_lse(features, kernel, bias, labels, mask, block_size, weights=weights)
        return lse - target

    def oracle(features, kernel, bias):
        logits = dense_logits(features, kernel, bias)
        lse = jax.nn.logsumexp(jnp.where(mask[None, :], logits, -jnp.inf), axis=1)
        return lse - (scattered(labels, weights, 23) * logits).sum(axis=1)

    assert_same(ours, oracle, arrays)


def test_a_label_that_is_there_twice_counts_twice():
    (features, kernel, bias), _, mask, _, _ = problem(batch=1)
    twice, once = jnp.array([[3, 3, -1]]), jnp.array([[3]])
    halves, one = jnp.array([[0.5, 0.5, 0.0]]), jnp.ones((1, 1))
    value = lambda labels, weights, x: (lambda out: (out[0] - out[1])[0])(
        blocked_lse(x, kernel, bias, labels, mask, weights=weights)
    )
    for function in (value, jax.grad(value, 2)):
        np.testing.assert_allclose(function(twice, halves, features), function(once, one, features), rtol=1e-5)


@pytest.mark.parametrize("given", ["targets", "weights", "targets weights"])
def test_the_sigmoids_of_graded_and_weighted_labels(given):
    arrays, labels, mask, targets, weights = problem()
    options = {"targets": targets if "targets" in given else None, "weights": weights if "weights" in given else None}

    def oracle(features, kernel, bias):
        hot = jnp.ones_like(targets) if options["targets"] is None else targets
        scale = jnp.ones_like(targets) if options["weights"] is None else weights
        of = lambda z: weighted_bce(z, scattered(labels, hot, 23), scattered(labels, scale, 23, 1.0))
        return jnp.where(mask[None, :], of(dense_logits(features, kernel, bias)), 0.0).sum(axis=1)

    assert_same(lambda *a: blocked_bce(*a, labels, mask, None, 7, **options), oracle, arrays)


def test_candidates_of_graded_and_weighted_labels():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(2, 6)), jnp.float32)
    slots, live = jnp.array([[0, 4], [2, 6]]), jnp.ones((2, 6), bool).at[0, 5].set(False)
    targets, weights = jnp.array([[0.25, 1.0], [0.5, 0.75]]), jnp.array([[2.0, 3.0], [0.5, 4.0]])
    own = jnp.array([[0.0, 0.0], [0.0, 1.5]])
    positive = jnp.ones((2, 2), bool)
    ours = multilabel.candidate_bce(logits, live, positive, slots, own, False, False, targets, weights)
    bce = optax.sigmoid_binary_cross_entropy
    first = bce(logits[0, 1:4], jnp.zeros(3)).sum() + 3 * bce(logits[0, 4], jnp.array(1.0))
    first += weighted_bce(logits[0, 0], 0.25, 2)
    # The second label of the other row is missing, and takes the place of the first negative candidate.
    second = bce(logits[1, jnp.array([1, 3, 4, 5])], jnp.zeros(4)).sum() + weighted_bce(logits[1, 2], 0.5, 0.5)
    second += weighted_bce(1.5, 0.75, 4)
    np.testing.assert_allclose(ours, jnp.stack([first, second]), rtol=1e-5)


def test_a_node_has_the_highest_target_below_it():
    nodes, targets = jnp.array([[-1, 2, 2, 5]]), jnp.array([[0.9, 0.2, 0.6, 0.1]])
    np.testing.assert_allclose(multilabel.of_nodes(nodes, targets)[:, 1:], [[0.6, 0.6, 0.1]])
    assert multilabel.of_nodes(nodes, None) is None


def test_shares_weigh_the_labels_of_a_document():
    labels, targets = jnp.array([[4, 8, -1]]), jnp.array([[0.5, 1.0, 1.0]])
    shares = multilabel.shares(labels, targets, jnp.array([[2.0, 3.0, 5.0]]))
    np.testing.assert_allclose(shares, [[1.0, 3.0, 0.0]])
    lse, logits = jnp.array([2.0]), jnp.array([[1.0, 0.5, 9.0]])
    loss = multilabel.pick_all_labels(lse, (shares * logits).sum(axis=1), labels, False, shares=shares)
    np.testing.assert_allclose(loss, [1 * (2 - 1) + 3 * (2 - 0.5)], rtol=1e-6)


def test_weights_do_not_cancel_in_the_mean_of_labels():
    labels, targets, weights = jnp.array([[4, 8, -1]]), jnp.array([[0.5, 1.0, 1.0]]), jnp.array([[2.0, 3.0, 5.0]])
    shares, mass = multilabel.shares(labels, targets, weights), multilabel.shares(labels, targets, None).sum(axis=1)
    lse, logits = jnp.array([2.0]), jnp.array([[1.0, 0.5, 9.0]])
    loss = multilabel.pick_all_labels(lse, (shares * logits).sum(axis=1), labels, True, shares=shares, mass=mass)
    np.testing.assert_allclose(loss, [(1 * (2 - 1) + 3 * (2 - 0.5)) / 1.5], rtol=1e-6)


def test_a_soft_cross_entropy_leaves_out_labels_that_do_not_compete():
    logits, mask = jnp.array([[0.3, -0.2, 1.0, 5.0]]), jnp.array([[True, True, True, False]])
    log_probs = jax.nn.log_softmax(logits[0, :3])
    found = losses.soft_cross_entropy(logits, jnp.array([[0, 2, 4]]), jnp.array([[0.1, 0.3, 0.6]]), mask)
    np.testing.assert_allclose(found, [-(0.25 * log_probs[0] + 0.75 * log_probs[2])], rtol=1e-5)
    assert losses.soft_cross_entropy(logits, jnp.array([[4]]), jnp.ones((1, 1)), mask).tolist() == [0.0]
