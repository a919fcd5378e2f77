"""Similarities by blocks against dense arithmetic."""

import tracemalloc

import numpy as np
import pytest

from mhe_jax.evaluation import similarity


@pytest.fixture
def embeddings():
    """23 embeddings of very different lengths; number 5 has length 0."""
    rng = np.random.default_rng(0)
    found = rng.standard_normal((23, 7)) * rng.choice([1e-6, 1, 1e6], (23, 1))
    found[5] = 0
    return found.astype(np.float32)


def dense_cosines(embeddings):
    """float64 [N, N], 0 with an embedding of length 0."""
    exact = embeddings.astype(np.float64)
    unit = np.zeros_like(exact)
    for row, vector in enumerate(exact):
        if vector.any():
            unit[row] = vector / np.sqrt((vector**2).sum())
    return unit @ unit.T


@pytest.mark.parametrize("block", [1, 100, 2**24])
def test_pairs_are_cosines_whatever_the_block(embeddings, block, monkeypatch):
    monkeypatch.setattr(similarity, "_BLOCK_BYTES", block)
    first, second = (side.ravel() for side in np.meshgrid(np.arange(23), np.arange(23)))
    found = similarity.pair_similarities(embeddings, first, second)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, dense_cosines(embeddings)[first, second], atol=1e-7)
    assert (found[(first == 5) | (second == 5)] == 0).all()
    assert found.max() == 1


def test_hand_computed_pairs():
    embeddings = np.array([[3, 0], [0, 2], [-1, 0], [1, 1]], np.float32)
    first, second = np.array([0, 0, 0, 0]), np.array([0, 1, 2, 3])
    np.testing.assert_allclose(similarity.pair_similarities(embeddings, first, second), [1, 0, -1, np.sqrt(0.5)])
    np.testing.assert_allclose(similarity.pair_distances(embeddings, first, second), [0, 2, 4, 2 - np.sqrt(2)])


@pytest.mark.parametrize("block", [1, 300, 2**24])
def test_distances_are_those_of_normalised_embeddings(embeddings, block, monkeypatch):
    monkeypatch.setattr(similarity, "_BLOCK_BYTES", block)
    rows = np.delete(np.arange(23), 5)
    first, second = (side.ravel() for side in np.meshgrid(rows, rows))
    expected = 2 - 2 * dense_cosines(embeddings)[first, second]
    np.testing.assert_allclose(similarity.pair_distances(embeddings, first, second), expected, atol=1e-12)
    five = np.full(3, 5)
    np.testing.assert_allclose(similarity.pair_distances(embeddings, five, np.array([0, 5, 9])), [1, 0, 1])


def test_normalized_keeps_zero_and_makes_the_rest_of_length_one(embeddings):
    found = similarity.normalized(embeddings)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.where(np.arange(23) == 5, 0, 1), atol=1e-6)
    np.testing.assert_allclose(found @ found.T, dense_cosines(embeddings), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_told(embeddings, value):
    embeddings[7, 3] = embeddings[11, 0] = value
    for compare in (similarity.pair_similarities, similarity.pair_distances):
        with pytest.raises(ValueError, match="2 of 23 embeddings are not finite, the first is 7"):
            compare(embeddings, np.array([0]), np.array([1]))


@pytest.mark.parametrize("gallery_block", [1, 5, 8192])
@pytest.mark.parametrize("k", [1, 4, 11])
def test_search_is_a_stable_sort_of_all_similarities(gallery_block, k, monkeypatch):
    """Small whole numbers make many similarities equal."""
    monkeypatch.setattr(similarity, "_GALLERY_BLOCK", gallery_block)
    monkeypatch.setattr(similarity, "_BLOCK_BYTES", 160)
    # Signed axes: every similarity is 1, 0 or -1, without rounding.
    axes = np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))])
    rng = np.random.default_rng(k)
    probes, gallery = (axes[rng.integers(0, 7, n)] * 2.0 for n in (13, 11))
    scores, rows = similarity.search(probes, gallery, k)
    every = (probes @ gallery.T) / 4
    expected = np.argsort(-every, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(every, expected, axis=1))


def test_the_two_zeros_are_equal():
    keys = similarity._keys(np.array([[-0.0, 0.0, -1e-30, 1e-30]], np.float32), 0)
    assert np.argsort(-keys[0]).tolist() == [3, 0, 1, 2]


def test_search_orders_random_similarities_of_both_signs(embeddings):
    scores, rows = similarity.search(embeddings[:9], embeddings, 23)
    every = dense_cosines(embeddings)[:9]
    np.testing.assert_allclose(scores, np.take_along_axis(every, rows, axis=1), atol=1e-6)
    assert (np.sort(rows, axis=1) == np.arange(23)).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert scores.min() < -0.5


def test_a_large_search_holds_no_matrix_of_all():
    rng = np.random.default_rng(0)
    probes, gallery = (rng.standard_normal((n, 4)).astype(np.float32) for n in (700, 20000))
    tracemalloc.start()
    _, rows = similarity.search(probes, gallery, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20 < 700 * 20000 * 4
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (probes[::100].astype(float), gallery.astype(float))]
    np.testing.assert_array_equal(rows[::100, 0], np.argmax(unit[0] @ unit[1].T, axis=1))
