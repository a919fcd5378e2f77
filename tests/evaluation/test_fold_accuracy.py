"""Ten-fold accuracy against the published formulas, and with exact thresholds: threshold by threshold, fold by fold."""

import itertools
import time
import tracemalloc

import numpy as np
import pytest
import sklearn.preprocessing
import torch

from mhe_jax.data.dataset import Pairs
from mhe_jax.evaluation.verification import FARS, collapse, evaluate_pairs, kfold_accuracy, published_accuracy


def random_pairs(seed, count, size=8, noise=1.0, same_share=0.5):
    """Embeddings of faces [2 count, size] and pairs of rows; those of one person are near each other."""
    rng = np.random.default_rng(seed)
    one = rng.standard_normal((count, size))
    same = rng.random(count) < same_share
    other = np.where(
        same[:, None], one + noise * rng.standard_normal((count, size)), rng.standard_normal((count, size))
    )
    order = rng.permutation(2 * count)
    embeddings = np.concatenate([one, other])[order].astype(np.float32) * rng.uniform(0.1, 30, (2 * count, 1))
    place = np.argsort(order).astype(np.int32)
    return embeddings.astype(np.float32), Pairs("lfw", place[:count], place[count:], same)


def published(embeddings, pairs):
    """(mean, std of accuracies, thresholds): loops over folds and thresholds, in torch's float64."""
    unit = torch.nn.functional.normalize(torch.from_numpy(embeddings.astype(np.float64)), eps=1e-300)
    distance = ((unit[pairs.first.astype(int)] - unit[pairs.second.astype(int)]) ** 2).sum(dim=1)
    same = torch.from_numpy(pairs.same)
    grid = [0.01 * step for step in range(400)]
    accuracies, chosen, start = [], [], 0
    for fold in range(10):
        size = len(same) // 10 + (fold < len(same) % 10)
        test = torch.zeros(len(same), dtype=torch.bool)
        test[start : start + size] = True
        start += size
        best, best_accuracy = None, -1.0
        for threshold in grid:
            accuracy = ((distance < threshold) == same)[~test].double().mean().item()
            if accuracy > best_accuracy:
                best, best_accuracy = threshold, accuracy
        chosen.append(best)
        accuracies.append(((distance < best) == same)[test].double().mean().item())
    return np.mean(accuracies), np.std(accuracies), chosen


@pytest.mark.parametrize(("seed", "count", "noise"), [(0, 10, 1.0), (1, 97, 1.0), (2, 203, 0.3), (3, 111, 3.0)])
def test_equals_the_published_formulas(seed, count, noise):
    embeddings, pairs = random_pairs(seed, count, noise=noise)
    accuracy, std, thresholds = published(embeddings, pairs)
    found = published_accuracy(embeddings, pairs)
    assert found.accuracy == pytest.approx(accuracy, abs=1e-12)
    assert found.std == pytest.approx(std, abs=1e-12)
    assert found.threshold == pytest.approx(1 - np.mean(thresholds) / 2, abs=1e-9)
    assert 0.4 < found.accuracy <= 1


def test_normalisation_is_scikit_learns():
    embeddings, pairs = random_pairs(4, 60)
    unit = sklearn.preprocessing.normalize(embeddings.astype(np.float64)).astype(np.float32)
    assert published_accuracy(unit, pairs)[:2] == published_accuracy(embeddings, pairs)[:2]


def on_circle(cosines):
    """One pair of embeddings with each cosine."""
    angle = np.arccos(np.asarray(cosines, np.float64))
    embeddings = np.concatenate([[[1, 0]], np.stack([np.cos(angle), np.sin(angle)], axis=1)]).astype(np.float32)
    count = len(angle)
    return embeddings, np.zeros(count, np.int32), np.arange(1, count + 1, dtype=np.int32)


def test_hand_computed_folds():
    """Same at cosine 0.9, distance 0.2; different at 0.1, distance 1.8: all right from the threshold 0.21 to 1.79."""
    embeddings, first, second = on_circle([0.9, 0.1] * 10)
    found = published_accuracy(embeddings, Pairs("toy", first, second, np.arange(20) % 2 == 0))
    # 0.2 may be just above 2 (1 - 0.9) in float32; the first threshold above it is 0.2 or 0.21.
    assert (found.accuracy, found.std) == (1, 0)
    assert found.threshold == pytest.approx(1 - 0.21 / 2, abs=0.0051)


def test_a_pair_is_the_same_below_the_threshold_not_at_it():
    """At distances of exactly 2 and 0: of thresholds, the first above 0 is right about all, 0 is not above 0."""
    embeddings = np.array([[1, 0], [0, 1]], np.float32)
    first = np.zeros(20, np.int32)
    second = (np.arange(20) % 2).astype(np.int32)
    assert published_accuracy(embeddings, Pairs("toy", first, second, second == 0)) == (1, 0, 1 - 0.01 / 2)
    # The wrong way round nothing is gained by accepting pairs at 0: with as many of both, rejecting all comes first.
    assert published_accuracy(embeddings, Pairs("toy", first, second, second == 1)) == (0.5, 0, 1)


def test_the_test_fold_does_not_choose_its_threshold():
    """Pairs of the last fold are labelled the wrong way round: none of its pairs is right."""
    embeddings, first, second = on_circle([0.9, 0.1] * 50)
    same = np.arange(100) % 2 == 0
    same[90:] = ~same[90:]
    found = published_accuracy(embeddings, Pairs("toy", first, second, same))
    assert found.accuracy == pytest.approx(0.9)
    assert found.std == pytest.approx(0.3)


def exact(embeddings, pairs):
    """(mean, std of accuracies, thresholds), in loops over folds and over cosines that descend."""
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = np.clip((unit[pairs.first] * unit[pairs.second]).sum(axis=1), -1, 1).astype(np.float32).tolist()
    accuracies, chosen = [], []
    for test in np.array_split(np.arange(len(cosines)), 10):
        rest = sorted(set(range(len(cosines))) - set(test.tolist()))
        cuts = sorted({cosines[i] for i in rest} | {1.0, -1.0}, reverse=True)
        best, most = None, -1
        for upper, lower in itertools.pairwise(cuts):
            threshold = (upper + lower) / 2
            right = sum((cosines[i] >= threshold) == pairs.same[i] for i in rest)
            if right > most:
                best, most = threshold, right
        chosen.append(best)
        accuracies.append(np.mean([(cosines[i] >= best) == pairs.same[i] for i in test]))
    return np.mean(accuracies), np.std(accuracies), np.mean(chosen)


@pytest.mark.parametrize(("seed", "count", "noise"), [(0, 10, 1.0), (1, 97, 1.0), (2, 203, 0.3), (3, 111, 3.0)])
def test_exact_thresholds_lie_between_the_cosines_of_the_other_folds(seed, count, noise):
    embeddings, pairs = random_pairs(seed, count, noise=noise)
    np.testing.assert_allclose(kfold_accuracy(embeddings, pairs), exact(embeddings, pairs), rtol=0, atol=1e-7)


def test_squeezed_embeddings_are_told_apart_exactly_and_not_by_the_published_grid():
    """Angles of 0.01 and 0.02: squared distances of 0.0001 and 0.0004, both below the grid's first step."""
    embeddings, first, second = on_circle(np.cos([0.01, 0.02] * 20))
    pairs = Pairs("young", first, second, np.arange(40) % 2 == 0)
    found = evaluate_pairs(embeddings, pairs)
    assert (found["accuracy"], found["auc"], found["published_accuracy"]) == (1, 1, 0.5)
    assert np.cos(0.02) < found["threshold"] < np.cos(0.01)
    assert collapse(embeddings, pairs) == (
        "young: embeddings have collapsed: of nine in ten pairs of different people the cosine is above 0.999800, "
        "and the published accuracy cannot tell them apart"
    )
    apart, pairs = random_pairs(0, 50)
    assert collapse(apart, pairs) == ""
    assert collapse(apart, Pairs("of one kind", pairs.first, pairs.second, np.ones(50, bool))) == ""
    assert collapse(0 * apart, pairs).startswith("lfw: embeddings have collapsed")


def test_equal_embeddings_are_the_same_whatever_the_threshold_was_chosen_on():
    """Half of the equal pairs are called different: no threshold gains anything, and the largest is still at most 1."""
    embeddings, first, second = on_circle([1.0] * 20)
    pairs = Pairs("toy", first, second, np.arange(20) % 4 == 0)
    assert kfold_accuracy(embeddings, pairs) == (0.25, pytest.approx(np.std([0.5, 0] * 5)), 0)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_fewer_pairs_than_folds(count):
    embeddings, first, second = on_circle([0.5] * count)
    with pytest.raises(ValueError, match=f"agedb_30 has {count} pairs; accuracy over 10 folds needs at least 10"):
        evaluate_pairs(embeddings, Pairs("agedb_30", first, second, np.arange(count) % 2 == 0))


@pytest.mark.parametrize("same", [True, False])
def test_pairs_of_one_kind_have_an_accuracy_but_no_roc(same):
    embeddings, pairs = random_pairs(5, 30)
    one_kind = Pairs("lfw", pairs.first, pairs.second, np.full(30, same))
    found = evaluate_pairs(embeddings, one_kind)
    assert found["published_accuracy"] == pytest.approx(published(embeddings, one_kind)[0], abs=1e-12)
    assert found["accuracy"] > 0.95
    curve = ["auc", "eer", *(f"tar@{far}" for far in FARS), "tar@0"]
    assert np.isnan([found[name] for name in curve]).all()
    folds = {"accuracy", "accuracy_std", "published_accuracy", "published_accuracy_std", "threshold"}
    assert set(found) == {*folds, *curve, "zero_embeddings"}


def test_embeddings_that_are_not_finite_name_the_set():
    embeddings, pairs = random_pairs(6, 30)
    embeddings[3] = np.nan
    with pytest.raises(ValueError, match="lfw: 1 of 60 embeddings are not finite, the first is 3"):
        evaluate_pairs(embeddings, pairs)


def test_embeddings_of_length_zero_are_counted_and_similar_to_nothing():
    embeddings, pairs = random_pairs(7, 40, noise=0.1)
    perfect = evaluate_pairs(embeddings, pairs)
    assert (perfect["eer"], perfect["zero_embeddings"]) == (0, 0)
    row = pairs.first[np.flatnonzero(pairs.same)[0]]
    embeddings[row] = 0
    found = evaluate_pairs(embeddings, pairs)
    assert found["zero_embeddings"] == 1
    assert found["auc"] < perfect["auc"] == 1
    assert {name for name, value in found.items() if np.isnan(value)} == {f"tar@{far}" for far in FARS[1:]}
    assert all(isinstance(value, float) for value in found.values())


def test_collapsed_embeddings_are_no_better_than_chance():
    embeddings, pairs = random_pairs(8, 50)
    embeddings[:] = [1, 2, 3, 4, 5, 6, 7, 8]
    found = evaluate_pairs(embeddings, pairs)
    assert (found["auc"], found["eer"], found["tar@1e-1"]) == (0.5, 0.5, 0)
    assert found["published_accuracy"] == max(pairs.same.mean(), 1 - pairs.same.mean())
    assert found["accuracy"] == pairs.same.mean()  # equal embeddings cannot be different people's


def test_three_million_pairs_take_seconds_and_little_memory():
    rng = np.random.default_rng(0)
    people = rng.standard_normal((300, 16))
    person = np.repeat(np.arange(300), 10)
    embeddings = (people[person] + 0.5 * rng.standard_normal((3000, 16))).astype(np.float32)
    first, second = rng.integers(0, 3000, (2, 3_000_000), dtype=np.int32)
    pairs = Pairs("many", first, second, person[first] == person[second])
    began = time.process_time()
    tracemalloc.start()
    found = evaluate_pairs(embeddings, pairs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500 * 2**20  # a bool per pair and threshold would be 1144 MiB
    assert time.process_time() - began < 60
    assert found["accuracy"] > 0.99
    assert 0 < found["tar@1e-6"] <= found["tar@1e-5"] <= found["tar@1e-1"] <= 1
