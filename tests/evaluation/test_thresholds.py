"""Thresholds against every choice there is, on small random rankings."""

import itertools

import numpy as np
import pytest
import scipy.sparse
from sklearn.metrics import average_precision_score, f1_score

from mhe_jax.evaluation.pairs_of_labels import f1_scores, label_pairs, mean_average_precision
from mhe_jax.evaluation.thresholds import best_thresholds, precision_thresholds


def random_pairs(seed, examples=13, labels=5, levels=None, kept=None):
    """Pairs of random truth and scores, of few different levels if asked; and both as matrices."""
    rng = np.random.default_rng(seed)
    truth = rng.random((examples, labels)) < 0.3
    scores = np.clip(0.5 * truth + rng.random((examples, labels)) * 0.7, 0.01, 0.99)
    if levels:
        scores = np.round(scores * levels) / levels
    kept = kept or labels
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :kept]
    ids[0, -1] = -1  # a beam may find fewer
    matrix = np.zeros_like(scores)
    rows = np.nonzero(ids >= 0)[0]
    matrix[rows, ids[ids >= 0]] = scores[rows, ids[ids >= 0]]
    best = np.take_along_axis(scores, np.maximum(ids, 0), axis=1)
    return label_pairs(ids, best, scipy.sparse.csr_matrix(truth)), truth, matrix


def predicted(pairs, thresholds, groups):
    return pairs.score >= thresholds[groups[pairs.label]]


def best_of_all(pairs, groups, maximize):
    """The best F1 of all thresholds between scores."""
    number = groups.max() + 1
    choices = [np.append(np.unique(pairs.score[groups[pairs.label] == g]), np.inf) for g in range(number)]
    found = (f1_scores(pairs, predicted(pairs, np.array(one), groups))[maximize] for one in itertools.product(*choices))
    return max(found)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [None, 4], ids=["distinct", "ties"])
@pytest.mark.parametrize("maximize", ["micro_f1", "macro_f1", "example_f1"])
@pytest.mark.parametrize("groups", [[0, 0, 0, 0, 0], [0, 1, 0, 1, 1]], ids=["global", "groups"])
def test_no_thresholds_do_better(seed, levels, maximize, groups):
    groups = np.array(groups)
    if maximize == "example_f1" and groups.any():
        return
    pairs, _, _ = random_pairs(seed, levels=levels)
    thresholds = best_thresholds(pairs, groups, maximize)
    reached = f1_scores(pairs, predicted(pairs, thresholds, groups))[maximize]
    assert reached == pytest.approx(best_of_all(pairs, groups, maximize), abs=1e-12)


def test_what_rounding_makes_of_a_score_or_a_precision_changes_nothing():
    scores = np.full((100, 1), 0.7)
    truth = np.arange(100)[:, None] < 55
    pairs = label_pairs(np.zeros((100, 1), int), scores, scipy.sparse.csr_matrix(truth))
    groups = np.zeros(1, int)
    for thresholds in (best_thresholds(pairs, groups, "micro_f1"), precision_thresholds(pairs, groups, 0.55)):
        assert 0.69 < thresholds[0] < np.float32(0.7) * (1 - 2e-7)
    assert np.isinf(precision_thresholds(pairs, groups, 0.56)[0])


def test_a_label_alone_has_its_own_threshold_and_one_never_seen_that_of_all():
    truth = np.zeros((40, 3), bool)
    truth[:10, 0] = truth[5:30, 1] = True
    scores = np.where(truth, 0.6, 0.2) + np.array([[0.3, 0.0, 0.1]]) + np.linspace(0, 0.05, 40)[:, None]
    ids = np.argsort(-scores, axis=1)
    pairs = label_pairs(ids, np.take_along_axis(scores, ids, axis=1), scipy.sparse.csr_matrix(truth))
    found = best_thresholds(pairs, np.arange(3), "micro_f1")
    assert 0.55 < found[0] < 0.9
    assert 0.25 < found[1] < 0.6
    assert found[2] == best_thresholds(pairs, np.zeros(3, int), "micro_f1")[0]
    assert f1_scores(pairs, predicted(pairs, found, np.arange(3)))["micro_f1"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_precision_is_reached_by_the_lowest_threshold(seed):
    pairs, _, _ = random_pairs(seed, examples=60)
    groups = np.array([0, 0, 1, 1, 1])
    found = precision_thresholds(pairs, groups, 0.7)
    for group in (0, 1):
        inside = groups[pairs.label] == group
        lower = np.unique(pairs.score[inside & (pairs.score < found[group])])
        reaches = lambda threshold, inside=inside: pairs.hit[inside & (pairs.score >= threshold)].mean() >= 0.7
        assert reaches(found[group])
        assert not any(map(reaches, lower))


def test_a_precision_that_no_threshold_reaches_answers_nothing():
    pairs = label_pairs(np.array([[0, 1]]), np.array([[0.9, 0.8]]), scipy.sparse.csr_matrix([[0, 1]]))
    assert precision_thresholds(pairs, np.zeros(2, int), 0.9) == [np.inf]


@pytest.mark.parametrize("kept", [5, 3])
def test_figures_are_those_of_scikit_learn(kept):
    pairs, truth, matrix = random_pairs(3, examples=31, kept=kept)
    found = f1_scores(pairs, pairs.score >= 0.5)
    for average, name in (("micro", "micro_f1"), ("macro", "macro_f1"), ("samples", "example_f1")):
        wanted = f1_score(truth, matrix >= 0.5, average=average, zero_division=1.0)
        assert found[name] == pytest.approx(wanted)
    if kept == 5:
        assert mean_average_precision(pairs) == pytest.approx(average_precision_score(truth, matrix), abs=0.01)


def test_average_precision_counts_what_was_not_ranked_as_missed():
    pairs = label_pairs(
        np.array([[0], [0], [1]]), np.array([[0.9], [0.5], [0.4]]), scipy.sparse.csr_matrix([[0, 1], [1, 0], [0, 1]])
    )
    assert mean_average_precision(pairs) == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_there_must_be_something_to_find_and_one_threshold_for_examples():
    nothing = label_pairs(np.array([[0]]), np.array([[0.5]]), scipy.sparse.csr_matrix((1, 2)))
    with pytest.raises(ValueError, match="no example that thresholds could be chosen on has a label"):
        best_thresholds(nothing, np.zeros(2, int), "micro_f1")
    pairs, _, _ = random_pairs(0)
    with pytest.raises(
        ValueError, match="--maximize=example_f1 chooses one threshold for all labels: set --per=global"
    ):
        best_thresholds(pairs, np.arange(5), "example_f1")


def test_the_lowest_pair_of_all_that_are_predicted_reaches_its_threshold():
    scores = np.array([[0.7], [0.1]])  # of which the second is less than its float32
    pairs = label_pairs(np.zeros((2, 1), int), scores, scipy.sparse.csr_matrix(np.ones((2, 1), bool)))
    groups = np.zeros(1, int)
    for thresholds in (best_thresholds(pairs, groups, "micro_f1"), precision_thresholds(pairs, groups, 0.9)):
        assert predicted(pairs, thresholds, groups).all()
