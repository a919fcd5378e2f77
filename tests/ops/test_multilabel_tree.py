"""True nodes, forced selection and injection against loops over rows and sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.ops import multilabel


@pytest.mark.parametrize(("max_labels", "counted"), [(0, [2, 5, 9]), (2, [5, 9]), (1, [9]), (7, [2, 5, 9])])
def test_labels_are_sorted_and_the_first_ones_count(max_labels, counted):
    labels, counts = multilabel.sort_labels(jnp.array([[-1, 9, -1, 5, 2], [-1] * 5]), max_labels)
    np.testing.assert_array_equal(labels, [[-1, -1, 2, 5, 9], [-1] * 5])
    assert labels[0][counts[0]].tolist() == counted
    assert not counts[1].any()


def test_distinct_nodes_are_marked_once():
    nodes = jnp.array([[-1, -1, 0, 0, 3, 3, 4], [-1] * 7])
    np.testing.assert_array_equal(multilabel.first_of_each(nodes), [[0, 0, 1, 0, 1, 0, 1], [0] * 7])


def test_slots_of_nodes_among_the_children_of_their_parents():
    parents, nodes = jnp.array([[7, 0, -1], [3, 4, 5]]), jnp.array([[-1, 3, 29, 16], [-1, -1, 12, 23]])
    # Children of 7 are 28 .. 31, those of 0 are 0 .. 3; 16 is a child of 4, which is not there.
    np.testing.assert_array_equal(multilabel.find_slots(parents, nodes, 4), [[12, 7, 1, 12], [12, 12, 0, 11]])


def test_places_of_blocks():
    held = jnp.array([2, 3, 7, 9, 9])
    np.testing.assert_array_equal(
        multilabel.find_blocks(held, jnp.array([[-1, 2], [7, 8], [3, 11]])), [[5, 0], [2, 5], [1, 5]]
    )


def test_true_nodes_come_first_and_by_score():
    rng = np.random.default_rng(0)
    for width in (1, 3, 6):
        scores = -np.sort(rng.exponential(size=(40, 6)), axis=1)
        nodes = np.stack([rng.choice(12, 6, replace=False) for _ in range(40)])
        scores[:9, -2:], nodes[:9, -2:] = -np.inf, -1
        true_nodes = np.stack([np.sort(rng.choice(12, 4, replace=False)) for _ in range(40)])
        true_nodes[rng.random((40, 4)) < 0.4] = -1
        true_scores = -rng.exponential(size=(40, 4))
        for row in range(40):  # a node has one score
            for i, node in enumerate(true_nodes[row]):
                true_scores[row, i] = dict(zip(nodes[row], scores[row], strict=True)).get(node, true_scores[row, i])
        kept_scores, kept = multilabel.force(*map(jnp.asarray, (scores, nodes, true_scores, true_nodes)), width)
        for row in range(40):
            true = sorted(
                ((s, n) for s, n in zip(true_scores[row], true_nodes[row], strict=True) if n >= 0), reverse=True
            )
            names = {n for _, n in true}
            others = [(s, n) for s, n in zip(scores[row], nodes[row], strict=True) if n >= 0 and n not in names]
            expected = ([*true, *others] + [(-np.inf, -1)] * width)[:width]
            assert kept[row].tolist() == [n for _, n in expected]
            np.testing.assert_allclose(kept_scores[row], [s for s, _ in expected], rtol=1e-6)


def test_recall_of_the_true_nodes():
    nodes, true_nodes = jnp.array([[1, 2, -1]] * 4), jnp.array([[-1, 1, 2], [2, 3, -1], [-1, -1, 9], [-1, -1, -1]])
    np.testing.assert_allclose(multilabel.recall(nodes, true_nodes), [1.0, 0.5, 0.0, 1.0])


def bce_by_loop(logits, live, positive, slots, own_logits, copy_last, mean):
    """One row after the other, place by place, as the published system does it."""
    real = [[i for i in range(logits.shape[1]) if live[row, i]] for row in range(len(logits))]
    longest = max(map(len, real))
    result = []
    for row, places in enumerate(real):
        if copy_last:
            places = places + [places[-1]] * (longest - len(places))
        true = {int(slots[row, j]) for j in range(positive.shape[1]) if positive[row, j]}
        pairs = [(logits[row, i], i in true) for i in places]
        missing = [j for j in range(positive.shape[1]) if positive[row, j] and slots[row, j] >= logits.shape[1]]
        if sum(hot for _, hot in pairs) != positive[row].sum():
            for j in missing:
                first = next((at for at, (_, hot) in enumerate(pairs) if not hot), None)
                if first is not None:
                    pairs[first] = own_logits[row, j], True
        terms = [np.logaddexp(0, -z if hot else z) for z, hot in pairs]
        result.append(np.mean(terms) if mean else np.sum(terms))
    return np.array(result)


@pytest.mark.parametrize("copy_last", [False, True])
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("width", [1, 4, 9])
def test_candidate_loss_equals_the_loop(width, mean, copy_last):
    """Six places and up to nine labels: rows with more missing labels than negative places are among them."""
    rng = np.random.default_rng(width)
    rows, places = 60, 6
    logits, own_logits = 3 * rng.standard_normal((rows, places)), 3 * rng.standard_normal((rows, width))
    live = rng.random((rows, places)) < 0.8
    live[np.arange(rows), rng.integers(0, places, rows)] = True
    positive, slots = rng.random((rows, width)) < 0.7, np.full((rows, width), places)
    for row in range(rows):
        order = rng.permutation(np.flatnonzero(live[row]))[: rng.integers(0, width + 1)]
        slots[row, : len(order)] = order
    positive[0] = False
    arguments = logits.astype(np.float32), live, positive, slots, own_logits.astype(np.float32)
    ours = jax.jit(multilabel.candidate_bce, static_argnums=(5, 6))(*arguments, copy_last, mean)
    np.testing.assert_allclose(ours, bce_by_loop(*arguments, copy_last, mean), rtol=1e-5)


def test_copies_that_make_up_for_a_missing_label_prevent_its_injection():
    logits, live = jnp.array([[0.5, -1.0, 9.0], [1.0, 2.0, 3.0]]), jnp.array([[True, True, False], [True] * 3])
    positive, slots = jnp.array([[True, True], [False, False]]), jnp.array([[1, 3], [3, 3]])
    loss = multilabel.candidate_bce(logits, live, positive, slots, jnp.full((2, 2), 7.0), copy_last=True, mean=False)
    softplus = lambda z: np.logaddexp(0, z)
    assert float(loss[0]) == pytest.approx(softplus(0.5) + 2 * softplus(1.0), rel=1e-6)


def test_without_missing_labels_nothing_is_injected():
    rng = np.random.default_rng(0)
    logits, live = rng.standard_normal((9, 8)), np.ones((9, 8), bool)
    slots, positive = np.tile([1, 5, 7], (9, 1)), rng.random((9, 3)) < 0.6
    ours = multilabel.candidate_bce(*map(jnp.asarray, (logits, live, positive, slots)))
    np.testing.assert_allclose(ours, bce_by_loop(logits, live, positive, slots, None, False, True), rtol=1e-6)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_pick_all_labels_is_a_cross_entropy_for_each_label(mean, smoothing):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4, 11)).astype(np.float32)
    labels = np.array([[3, -1, 7], [-1, -1, -1], [-1, 0, -1], [10, 2, 5]])
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    expected = []
    for row, own in enumerate(labels):
        terms = [-(1 - smoothing) * log_probs[row, y] - smoothing * log_probs[row].mean() for y in own if y >= 0]
        expected.append((np.mean(terms) if mean else np.sum(terms)) if terms else 0.0)
    picked = np.where(labels >= 0, np.take_along_axis(logits, labels, axis=1), 0).sum(axis=1)
    lse, total = jax.nn.logsumexp(logits, axis=1), jnp.asarray(logits.sum(axis=1))
    ours = multilabel.pick_all_labels(lse, jnp.asarray(picked), jnp.asarray(labels), mean, total, 11, smoothing)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
