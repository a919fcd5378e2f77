"""Averaging rankings, against dense arithmetic; weights where the best ones are known."""

import numpy as np
import pytest

from mhe_jax.data.ragged import top_of
from mhe_jax.inference import fusion, predictions
from mhe_jax.inference.fusion_weights import search

DOCUMENTS, LABELS, KEPT = 13, 17, 4


@pytest.fixture
def runs():
    """Three runs' top labels; document 5 has none in run 0, and none at all in document 6."""
    rng = np.random.default_rng(0)
    matrices = []
    for run in range(3):
        ids = rng.permuted(np.tile(np.arange(LABELS), (DOCUMENTS, 1)), axis=1)[:, :KEPT]
        ids[6] = -1
        if run == 0:
            ids[5] = -1
        scores = -np.sort(-rng.random((DOCUMENTS, KEPT)), axis=1)
        matrices.append(predictions.csr_of(ids, scores, LABELS))
    return matrices


def dense(matrix):
    """(scores, whether there is one)."""
    there = matrix.copy()
    there.data = np.ones_like(there.data)
    return matrix.toarray().astype(np.float64), there.toarray() > 0


def test_score_is_the_mean_probability(runs):
    expected = np.mean([dense(m)[0] for m in runs], axis=0)
    np.testing.assert_allclose(fusion.by_score(runs, KEPT, (1, 1, 1)).toarray(), expected, rtol=1e-5)


def test_sigmoid_is_the_mean_of_the_log_odds(runs):
    total, kept = np.zeros((DOCUMENTS, LABELS)), np.zeros((DOCUMENTS, LABELS), bool)
    for matrix in runs:
        scores, there = dense(matrix)
        odds = np.log(np.clip(scores, 1e-6, None)) - np.log1p(-np.clip(scores, 1e-6, None))
        for row in range(DOCUMENTS):
            lowest = odds[row][there[row]].min() if there[row].any() else 0.0
            total[row] += np.where(there[row], odds[row], lowest)
        kept |= there
    expected = np.where(kept, 1 / (1 + np.exp(-total / 3)), 0)
    np.testing.assert_allclose(fusion.by_sigmoid(runs, KEPT, (1, 1, 1)).toarray(), expected, rtol=1e-4)


def test_rank_is_the_mean_of_linear_places(runs):
    expected = np.zeros((DOCUMENTS, LABELS))
    for matrix in runs:
        ids, _ = top_of(matrix, KEPT)
        for row in range(DOCUMENTS):
            for place, label in enumerate(ids[row]):
                if label >= 0:
                    expected[row, label] += (1 - place / KEPT) / 3
    np.testing.assert_allclose(fusion.by_rank(runs, KEPT, (1, 1, 1)).toarray(), expected, rtol=1e-5)


@pytest.mark.parametrize("method", fusion.METHODS)
def test_one_run_keeps_its_order(runs, method):
    combined = fusion.combine([runs[1]], method)
    np.testing.assert_array_equal(top_of(combined, KEPT)[0], top_of(runs[1], KEPT)[0])


@pytest.mark.parametrize("method", fusion.METHODS)
def test_blocks_of_documents_do_not_matter(runs, method, monkeypatch):
    cut = []
    for matrix in runs:
        ids, scores = top_of(matrix, KEPT)
        ids[7, 2:] = -1  # in a block of its own, the second of two labels must not be worth less
        cut.append(predictions.csr_of(ids, scores, LABELS))
    whole = fusion.combine(cut, method)
    monkeypatch.setattr(fusion, "BLOCK", 1)
    parts = fusion.combine(cut, method)
    np.testing.assert_array_equal(parts.toarray(), whole.toarray())
    assert parts.dtype == np.float32


@pytest.mark.parametrize("method", fusion.METHODS)
def test_the_best_labels_are_kept(runs, method):
    whole, kept = fusion.combine(runs, method), fusion.combine(runs, method, 2)
    np.testing.assert_array_equal(top_of(kept, 2)[0], top_of(whole, 2)[0])
    assert np.diff(kept.indptr).max() == 2


def test_the_second_choice_of_all_beats_the_favourite_of_one():
    favourites, scores = (0, 2, 3), ([0.9, 0.8, 0.01], [0.7, 0.6, 0.01], [0.9, 0.2, 0.01])
    matrices = [
        predictions.csr_of(np.array([[first, 1, 4]]), np.array([row]), 5)
        for first, row in zip(favourites, scores, strict=True)
    ]
    for method in fusion.METHODS:
        assert top_of(fusion.combine(matrices, method), 1)[0].item() == 1, method
    # Label 1 is second of three everywhere, 4 the third: 1 - 1/3 and 1 - 2/3; the others are first once: 1/3.
    ranked = fusion.combine(matrices, "rank").toarray()
    np.testing.assert_allclose(ranked, [[1 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("method", fusion.METHODS)
def test_only_the_ratios_of_weights_count(runs, method):
    plain = fusion.combine(runs, method)
    np.testing.assert_allclose(fusion.combine(runs, method, weights=(2, 2, 2)).toarray(), plain.toarray(), rtol=1e-5)
    np.testing.assert_allclose(
        fusion.combine(runs, method, weights=(1, 2, 1)).toarray(),
        fusion.combine([runs[0], runs[1], runs[1], runs[2]], method).toarray(),
        rtol=1e-4,
    )


@pytest.mark.parametrize("method", fusion.METHODS)
def test_a_run_of_weight_0_plays_no_part(runs, method):
    weighted, alone = (fusion.combine(*given) for given in ((runs, method, 100, (0, 3, 0)), (runs[1:2], method)))
    np.testing.assert_array_equal(top_of(weighted, KEPT)[0], top_of(runs[1], KEPT)[0])
    np.testing.assert_array_equal(weighted.toarray(), alone.toarray())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1, 2), "--weights has 2 numbers for 3 runs: give one for each"),
        ((1, -1, 1), "weights are 0 or more, and at least one is above 0"),
        ((0, 0, 0), "weights are 0 or more, and at least one is above 0"),
        ((1, float("nan"), 1), "weights are 0 or more"),
    ],
)
def test_weights_that_are_none(runs, weights, message):
    with pytest.raises(ValueError, match=message):
        fusion.combine(runs, "score", weights=weights)


def test_the_search_finds_the_summit_of_a_hill():
    summit = np.array([0.55, 0.3, 0.15])
    weights, value = search(lambda w: -np.abs(np.array(w) - summit).sum(), 3)
    np.testing.assert_allclose(weights, summit, atol=0.06)
    assert value > -0.1
    assert search(lambda w: -abs(w[0] - 0.15), 2)[0] == (0.15, 0.85)
    assert search(lambda w: w[1], 2) == ((0.0, 1.0), 1.0)
    # Nothing better than equal weights: they stay.
    assert search(lambda w: 1.0, 4) == ((0.25,) * 4, 1.0)
    assert search(lambda w: 7.0, 1) == ((1.0,), 7.0)
