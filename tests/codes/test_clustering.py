"""Balanced groups of vectors: exact sizes, the same from the same seed, and planted clusters found."""

import re
import tracemalloc

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from mhe_jax.codes import assignment, clustering
from mhe_jax.codes.assignment import distances, prices
from mhe_jax.codes.clustering import balanced_groups, clustered
from mhe_jax.labels import LabelSpace


def planted(groups, size, dims=8, noise=0.05, seed=0):
    """Vectors of `groups` clusters of `size` in random order, and the cluster of each."""
    rng = np.random.default_rng(seed)
    cluster = rng.permutation(np.repeat(np.arange(groups), size))
    vectors = rng.normal(size=(groups, dims))[cluster] + noise * rng.normal(size=(groups * size, dims))
    return vectors.astype(np.float32), cluster


def blocks(codes, stride):
    """The classes of each block of codes."""
    return [codes.id_of_code[start : start + stride] for start in range(0, codes.num_classes, stride)]


def test_prices_are_found_without_a_copy_of_all_costs(monkeypatch):
    monkeypatch.setattr(assignment, "_BLOCK", 2**14)
    costs = np.random.default_rng(0).random((40_000, 32), np.float32)
    price, room = np.linspace(0, 0.1, 32, dtype=np.float32), np.full(32, 1250.0)
    np.testing.assert_array_equal(assignment.cheapest(costs, price), (costs + price).argmin(axis=1))
    tracemalloc.start()
    try:
        prices(costs, room, price, 2)
        assert tracemalloc.get_traced_memory()[1] < costs.nbytes / 2
    finally:
        tracemalloc.stop()


@pytest.fixture(params=["small", "large", "in bunches"])
def way(request, monkeypatch):
    """The ways through the clustering, whatever the number of classes."""
    if request.param != "small":
        monkeypatch.setattr(clustering, "_SMALL", 0)
    if request.param == "in bunches":
        monkeypatch.setattr(clustering, "_MOST", 200)
    return request.param


def test_planted_clusters_are_the_groups(way):
    vectors, cluster = planted(6, 10)
    codes = clustered(vectors, LabelSpace(60, (6, 10)), seed=1)
    found = [np.unique(cluster[block]) for block in blocks(codes, 10)]
    if way == "in bunches":  # bunches are cut before their groups are seen
        assert np.mean([len(one) == 1 for one in found]) >= 0.5
    else:
        assert sorted(map(list, found)) == [[i] for i in range(6)]


def test_planted_trees_are_the_levels():
    """Three levels: 3 clusters of 3 of 4 classes each."""
    rng = np.random.default_rng(0)
    cluster = rng.permutation(36)
    vectors = 10 * rng.normal(size=(3, 5))[cluster // 12] + rng.normal(size=(9, 5))[cluster // 4]
    vectors += 0.01 * rng.normal(size=vectors.shape)
    codes = clustered(vectors.astype(np.float32), LabelSpace(36, (3, 3, 4)))
    for stride in (12, 4):
        assert all(len(np.unique(cluster[block] // stride)) == 1 for block in blocks(codes, stride))


@pytest.mark.parametrize(
    ("num_classes", "sizes"),
    [
        (1, (1, 1)),
        (2, (2, 1)),
        (7, (7, 1)),
        (7, (2, 5)),
        (53, (11, 5)),
        (53, (5, 3, 4)),
        (97, (9, 11)),
        (13, (2, 2, 2, 2)),
    ],
)
def test_any_number_of_classes_is_coded(way, num_classes, sizes):
    """Each class once; coinciding vectors too."""
    rng = np.random.default_rng(num_classes)
    for vectors in (rng.normal(size=(num_classes, 3)), np.ones((num_classes, 3))):
        codes = clustered(vectors.astype(np.float32), LabelSpace(num_classes, sizes))
        assert sorted(codes.code_of_id) == list(range(num_classes))


def test_the_same_seed_gives_the_same_codes(way):
    vectors, _ = planted(7, 9, noise=1.0)
    space = LabelSpace(63, (7, 9))
    assert clustered(vectors, space, seed=3).digest == clustered(vectors.copy(), space, seed=3).digest
    if way == "small":
        assert clustered(vectors, space, seed=3).digest != clustered(vectors, space, seed=4).digest


@pytest.mark.parametrize("missing", [5, 35, 56, 59, 60])
def test_classes_without_a_vector_fill_what_is_left(way, missing):
    vectors, cluster = planted(6, 10)
    present = np.ones(60, bool)
    present[:missing] = False
    vectors[~present] = np.nan
    codes = clustered(vectors, LabelSpace(60, (6, 10)), present=present)
    assert sorted(codes.code_of_id) == list(range(60))
    if missing == 5 and way == "small":
        of_present = [np.unique(cluster[block[present[block]]]) for block in blocks(codes, 10)]
        assert all(len(found) == 1 for found in of_present)


@pytest.mark.parametrize(
    ("shape", "bad", "message"),
    [
        ((6, 2), None, "there are vectors [6, 2] for 7 classes: one for each is needed"),
        ((7, 2), np.nan, "the vector of class 5 is not finite"),
        ((7, 2), np.inf, "the vector of class 5 is not finite"),
    ],
)
def test_what_cannot_be_clustered_is_an_error(shape, bad, message):
    vectors = np.zeros(shape, np.float32)
    if bad is not None:
        vectors[5, 1] = bad
    with pytest.raises(ValueError, match=re.escape(message)):
        clustered(vectors, LabelSpace(7, (3, 3)))


def test_no_assignment_to_the_found_centres_is_much_better():
    """Against the Hungarian method, on points without clusters; one of the groups has less room."""
    points, room = np.random.default_rng(0).normal(size=(211, 4)).astype(np.float32), np.array([20] * 10 + [11])
    groups = balanced_groups(points, room, np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(groups), room)
    costs = distances(points, np.stack([points[groups == k].mean(axis=0) for k in range(11)]))
    rooms = costs[:, np.repeat(np.arange(11), room)]
    least, usual = rooms[linear_sum_assignment(rooms)].sum(), costs.mean(axis=1).sum()
    assert costs[np.arange(211), groups].sum() - least < 0.01 * (usual - least)


def test_prices_are_paid_only_where_room_is_short():
    costs = np.array([[0, 5], [0, 6], [0, 7], [0, 8]], np.float32)
    np.testing.assert_array_equal(prices(costs, np.array([4.0, 4.0]), np.zeros(2), 50), [0, 0])
    paid = prices(costs, np.array([2.0, 4.0]), np.zeros(2), 50)
    assert paid[1] == 0
    assert 6 <= paid[0] <= 7


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 2.0**90), (np.float64, 2.0**900), (np.float16, 1)])
def test_large_vectors_are_clustered_as_small_ones(dtype, scale):
    vectors = (np.random.default_rng(0).integers(1, 60000, (13, 3)) // 32 * 32).astype(dtype)
    expected = clustered(vectors.astype(np.float32), LabelSpace(13, (4, 4)))
    found = clustered(vectors * dtype(scale), LabelSpace(13, (4, 4)))
    np.testing.assert_array_equal(found.classes_by_code, expected.classes_by_code)
