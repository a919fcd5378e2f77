import numpy as np
import pytest

from mhe_jax.data.dataset import ArraySplit
from mhe_jax.evaluation.baselines.nearest_neighbor import nearest_neighbor_top1, nearest_neighbors


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("count", "queries", "block"), [(1, 1, 4), (37, 11, 8), (32, 16, 8), (5, 3, 64)])
def test_equals_brute_force(metric, count, queries, block):
    rng = np.random.default_rng(0)
    train, asked = (rng.integers(0, 256, (n, 3, 5, 2), dtype=np.uint8) for n in (count, queries))
    found = nearest_neighbors(train, asked, metric=metric, block_size=block)
    a, b = (x.reshape(len(x), -1) / 255.0 for x in (train, asked))
    if metric == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    distance = ((b[:, None, :] - a[None, :, :]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found, distance.argmin(axis=1))


def test_the_first_of_equals_wins_and_padding_never_does():
    train = np.full((5, 1, 1, 1), 200, np.uint8)
    assert nearest_neighbors(train, np.zeros((2, 1, 1, 1), np.uint8), block_size=4).tolist() == [0, 0]


def test_top1_is_the_share_of_matching_labels():
    train = ArraySplit(np.array([0, 100, 200], np.uint8).reshape(3, 1, 1, 1), np.array([5, 6, 7], np.int32))
    asked = ArraySplit(np.array([10, 90, 220, 110], np.uint8).reshape(4, 1, 1, 1), np.array([5, 6, 6, 7], np.int32))
    assert nearest_neighbor_top1(train, asked) == 0.5


def test_unknown_metric_is_an_error():
    with pytest.raises(ValueError, match="metric is 'l1'"):
        nearest_neighbors(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8), metric="l1")
