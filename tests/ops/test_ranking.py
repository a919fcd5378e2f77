"""Ranking metrics against figures worked out by hand, plain loops, and scikit-learn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from mhe_jax.ops.ranking import drop_filtered, drop_labels, ranking_metrics
from mhe_jax.train.reporting import metrics

KS = (1, 3, 5)


def means(ids, labels, inverse_propensity, ks=KS, weight=None):
    weight = jnp.ones(len(ids)) if weight is None else jnp.asarray(weight)
    return metrics.means(metrics.weighted(ranking_metrics(ids, labels, inverse_propensity, ks), weight))


def random_case(seed=0, documents=23, num_labels=31, width=9, length=7):
    """Rankings of different lengths and padded label sets, some of them empty; -1 anywhere among the labels."""
    rng = np.random.default_rng(seed)
    shuffled = lambda: np.stack([rng.permutation(num_labels) for _ in range(documents)])
    ids, labels = shuffled()[:, :length], shuffled()[:, :width]
    ids[np.arange(length) >= rng.integers(0, length + 4, (documents, 1))] = -1
    labels[rng.random(labels.shape) < 0.5] = -1
    labels[[3, 11]] = -1
    return ids, labels, (1 + 5 * rng.random(num_labels)).astype(np.float32)


def oracle(ids, labels, q, ks=KS):
    """The definitions, document by document, in Python's floats."""
    d = lambda place: 1 / math.log2(place + 1)
    values = {}
    for k in ks:
        p, r, ndcg = [], [], []
        psp, psndcg = np.zeros(2), np.zeros(2)
        for ranking, padded in zip(ids.tolist(), labels.tolist(), strict=True):
            truth = {label for label in padded if label >= 0}
            hits = [(place, label) for place, label in enumerate(ranking[:k], 1) if label in truth]
            ideal = list(enumerate(sorted((float(q[label]) for label in truth), reverse=True)[:k], 1))
            most = sum(d(place) for place in range(1, min(k, len(truth)) + 1))
            p.append(len(hits) / k)
            r.append(len(hits) / len(truth) if truth else 0)
            ndcg.append(sum(d(place) for place, _ in hits) / most if truth else 0)
            psp += sum(float(q[label]) for _, label in hits), sum(best for _, best in ideal)
            if truth:
                psndcg += (
                    sum(d(place) * float(q[label]) for place, label in hits) / most,
                    sum(d(place) * best for place, best in ideal) / most,
                )
        values |= {f"P@{k}": np.mean(p), f"R@{k}": np.mean(r), f"nDCG@{k}": np.mean(ndcg)}
        values |= {f"PSP@{k}": psp[0] / psp[1], f"PSnDCG@{k}": psndcg[0] / psndcg[1]}
    return values


def test_figures_worked_out_by_hand():
    q = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    # The first document hits labels 2 (place 1) and 0 (place 3) and misses 3; the second hits 5 at place 2.
    ids = jnp.array([[2, 1, 0, 4, 5], [4, 5, 3, 2, 1]])
    labels = jnp.array([[0, -1, 2, 3], [-1, -1, 5, -1]])
    found = means(ids, labels, q)
    # Discounts: 1 at place 1, 1 / log2(3) = 0.63093 at place 2, 1 / log2(4) = 0.5 at place 3.
    second = 1 / math.log2(3)
    expected = {
        "P@1": (1 + 0) / 2,
        "P@3": (2 / 3 + 1 / 3) / 2,
        "P@5": (2 / 5 + 1 / 5) / 2,
        "R@1": (1 / 3 + 0) / 2,
        "R@3": (2 / 3 + 1) / 2,
        "R@5": (2 / 3 + 1) / 2,
        "nDCG@1": (1 + 0) / 2,
        # Three labels can reach 1 + 0.63093 + 0.5, one label 1.
        "nDCG@3": ((1 + 0.5) / (1 + second + 0.5) + second) / 2,
        "nDCG@5": ((1 + 0.5) / (1 + second + 0.5) + second) / 2,
        # Hits weigh 4 (label 2), 1 (label 0) and 32 (label 5); the best are 8, 4, 1 for the first, 32 for the second.
        "PSP@1": (4 + 0) / (8 + 32),
        "PSP@3": (4 + 1 + 32) / (8 + 4 + 1 + 32),
        "PSP@5": (4 + 1 + 32) / (8 + 4 + 1 + 32),
        "PSnDCG@1": (4 + 0) / (8 + 32),
        "PSnDCG@3": ((4 + 1 * 0.5) / (1 + second + 0.5) + 32 * second)
        / ((8 + 4 * second + 1 * 0.5) / (1 + second + 0.5) + 32),
        "PSnDCG@5": ((4 + 1 * 0.5) / (1 + second + 0.5) + 32 * second)
        / ((8 + 4 * second + 1 * 0.5) / (1 + second + 0.5) + 32),
    }
    assert found == pytest.approx(expected, rel=1e-6)
    assert found["nDCG@3"] == pytest.approx(0.667424, abs=1e-6)
    assert found["PSnDCG@3"] == pytest.approx(0.599935, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_random_rankings_against_plain_loops(seed):
    case = random_case(seed)
    found = jax.jit(lambda *case: metrics.weighted(ranking_metrics(*case, KS), jnp.ones(23)))(*case)
    assert metrics.means(found) == pytest.approx(oracle(*case), rel=1e-5)


@pytest.mark.parametrize(("documents", "width", "length"), [(1, 9, 5), (7, 1, 5), (5, 1013, 6)])
def test_one_document_one_label_and_very_many_labels(documents, width, length):
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(1501)[:length] for _ in range(documents)])
    labels = np.stack([rng.permutation(1501)[:width] for _ in range(documents)])
    # The fourth of each ranking is true, the first is not.
    labels[(labels == ids[:, 3:4]) | (labels == ids[:, :1])] = -1
    labels[:, 0] = ids[:, 3]
    q = (1 + rng.random(1501)).astype(np.float32)
    assert means(ids, labels, q) == pytest.approx(oracle(ids, labels, q), rel=1e-5)


@pytest.mark.parametrize("k", [1, 4, 13])
def test_ndcg_is_that_of_scikit_learn(k):
    rng = np.random.default_rng(1)
    scores, truth = rng.random((19, 13)), rng.random((19, 13)) < 0.3
    truth[4] = False
    labels = np.where(truth, np.arange(13), -1)
    found = means(np.argsort(-scores, axis=1), labels, None, (k,))
    assert found[f"nDCG@{k}"] == pytest.approx(ndcg_score(truth, scores, k=k), rel=1e-5)


def test_the_best_ranking_scores_one():
    _, labels, q = random_case()
    labels = labels[(labels >= 0).any(axis=1)]
    by_propensity = np.take_along_axis(labels, np.argsort(-np.where(labels < 0, 0, q[labels]), axis=1), axis=1)
    found = means(by_propensity, labels, q)
    ones = [name for name in found if not name.startswith(("P@", "R@"))]
    assert {name: found[name] for name in ones} == pytest.approx(dict.fromkeys(ones, 1.0), rel=1e-6)


def test_documents_without_labels_count_as_zero_and_are_never_nan():
    nothing = jnp.full((2, 4), -1)
    ids = jnp.array([[0, 1, 2], [-1, -1, -1]])
    values = ranking_metrics(ids, nothing, jnp.ones(3), (1, 3))
    assert all(np.array_equal(numerator, [0, 0]) for numerator, _ in values.values())
    counted = {name: float(denominator[0]) for name, (_, denominator) in values.items()}
    assert counted == {
        **{"P@1": 1, "R@1": 1, "nDCG@1": 1, "PSP@1": 0, "PSnDCG@1": 0},
        **{"P@3": 3, "R@3": 1, "nDCG@3": 1, "PSP@3": 0, "PSnDCG@3": 0},
    }


def test_no_width_of_labels_at_all():
    values = ranking_metrics(jnp.array([[0, 1]]), jnp.zeros((1, 0), jnp.int32), jnp.ones(2), (2,))
    assert all(float(numerator[0]) == 0 for numerator, _ in values.values())


def test_without_propensities_their_metrics_are_left_out():
    ids, labels, _ = random_case()
    assert set(ranking_metrics(ids, labels, None, (2,))) == {"P@2", "R@2", "nDCG@2"}


def test_batches_with_padding_equal_one_batch():
    ids, labels, q = random_case()
    sums = {}
    for start in range(0, 23, 5):
        rows = np.minimum(np.arange(start, start + 5), 22)
        weight = jnp.asarray(np.arange(start, start + 5) < 23, jnp.float32)
        sums = metrics.merge(sums, metrics.weighted(ranking_metrics(ids[rows], labels[rows], q, KS), weight))
    assert metrics.means(sums) == pytest.approx(oracle(ids, labels, q), rel=1e-5)


def test_padding_that_is_not_finite_counts_for_nothing():
    pair = (jnp.array([1.0, jnp.nan, 3.0]), jnp.array([2.0, jnp.inf, 4.0]))
    sums = metrics.weighted({"ratio": pair, "mean": jnp.array([1.0, jnp.nan, 2.0])}, jnp.array([1.0, 0.0, 2.0]))
    assert metrics.means(sums) == pytest.approx({"ratio": 7 / 10, "mean": 5 / 3})


def test_sharded_documents_give_the_same_sums(mesh):
    ids, labels, q = random_case(documents=24)
    rows = jax.NamedSharding(mesh, jax.P("data"))
    ids, labels, weight = jax.device_put((ids, labels, np.ones(24, np.float32)), rows)
    found = jax.jit(lambda *case: metrics.weighted(ranking_metrics(*case[:3], KS), case[3]))(ids, labels, q, weight)
    assert metrics.means(found) == pytest.approx(oracle(np.asarray(ids), np.asarray(labels), q), rel=1e-5)


def test_a_short_ranking_is_refused():
    with pytest.raises(ValueError, match="a ranking of 3 labels cannot be measured at 5"):
        ranking_metrics(jnp.zeros((2, 3), jnp.int32), jnp.zeros((2, 1), jnp.int32), None, (1, 5))


@pytest.mark.parametrize("width", [0, 1, 6])
def test_dropping_equals_ranking_the_other_labels(width):
    rng = np.random.default_rng(width)
    documents, num_labels, k = 11, 17, 4
    scores = rng.standard_normal((documents, num_labels)).astype(np.float32)
    filtered = np.stack([rng.permutation(num_labels)[:width] for _ in range(documents)]).astype(np.int32)
    filtered[rng.random(filtered.shape) < 0.3] = -1
    ids = np.argsort(-scores, axis=1)[:, : k + width]
    found_scores, found_ids = jax.jit(drop_filtered, static_argnums=3)(
        np.take_along_axis(scores, ids, axis=1), ids, filtered, k
    )
    for row in range(documents):
        others = [i for i in range(num_labels) if i not in filtered[row]]
        expected = sorted(others, key=lambda label, row=row: -scores[row, label])[:k]
        assert found_ids[row].tolist() == expected
        np.testing.assert_array_equal(found_scores[row], scores[row, expected])


def test_where_too_few_labels_are_left():
    scores, ids = drop_filtered(jnp.array([[0.9, 0.8, -jnp.inf]]), jnp.array([[4, 2, -1]]), jnp.array([[-1, 4]]), 3)
    np.testing.assert_array_equal(ids, [[2, -1, -1]])
    np.testing.assert_array_equal(scores, np.array([[0.8, -np.inf, -np.inf]], np.float32))
    with pytest.raises(ValueError, match="4 labels cannot be left of a ranking of 3"):
        drop_filtered(scores, ids, jnp.zeros((1, 0), jnp.int32), 4)


def test_dropped_labels_are_no_longer_true():
    labels, filtered = jnp.array([[5, -1, 3, 0], [2, 1, -1, -1]]), jnp.array([[-1, 3, 7], [2, 1, -1]])
    np.testing.assert_array_equal(drop_labels(labels, filtered), [[5, -1, -1, 0], [-1, -1, -1, -1]])
