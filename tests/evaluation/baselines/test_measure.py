import math

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.evaluation.baselines.measure import measure


def matrix(rng, chance, shape=(11, 13)):
    return scipy.sparse.csr_matrix((rng.random(shape) < chance).astype(np.float32))


@pytest.mark.parametrize("with_filter", [False, True])
def test_metrics_against_brute_force(with_filter):
    rng = np.random.default_rng(5)
    true, filtered, inverse = matrix(rng, 0.2), matrix(rng, 0.1), (1 + rng.random(13)).astype(np.float32)
    true = scipy.sparse.csr_matrix(true.toarray() * (np.arange(11) != 4)[:, None])
    dropped = (filtered.toarray() > 0) & with_filter
    ids = rng.permuted(np.tile(np.arange(13, dtype=np.int32), (11, 1)), axis=1)[:, :12]
    ids[3, 2:] = -1
    found = measure(ids, true, filtered if with_filter else None, inverse)
    hit, counted = (true.toarray() > 0) & ~dropped, (true.toarray() > 0).any(axis=1)
    assert not counted.all()
    # What is filtered is not there.
    left = [[label for label in row if label >= 0 and not dropped[i, label]][:5] for i, row in enumerate(ids)]
    for k in (1, 3, 5):
        assert found[f"P@{k}"] == pytest.approx(
            sum(hit[i, row[:k]].sum() for i, row in enumerate(left)) / (counted.sum() * k)
        )
        gained = sum(inverse[label] for i, row in enumerate(left) for label in row[:k] if hit[i, label])
        possible = sum(np.sort(inverse[hit[i]])[::-1][:k].sum() for i in range(11))
        assert found[f"PSP@{k}"] == pytest.approx(gained / possible, rel=1e-5)
    discount = 1 / np.log2(np.arange(5) + 2)
    # A document without labels is not counted, and one whose labels are all left out counts as 0.
    gains = [np.sum(discount[: len(row)] * hit[i, row]) for i, row in enumerate(left)]
    ndcg = [gain / discount[: max(hit[i].sum(), 1)].sum() for i, gain in enumerate(gains)]
    assert found["nDCG@5"] == pytest.approx(np.mean(np.array(ndcg)[counted]), rel=1e-5)
    assert 0 < found["P@1"] < 1


def test_without_propensities_there_are_no_such_metrics():
    rng = np.random.default_rng(6)
    found = measure(np.zeros((11, 5), np.int32), matrix(rng, 0.2), None, None)
    assert {name.split("@")[0] for name in found} == {"P", "R", "nDCG"}


def test_what_was_not_counted_is_nan():
    found = measure(np.zeros((2, 5), np.int32), scipy.sparse.csr_matrix((2, 7)), None, np.ones(7, np.float32))
    assert math.isnan(found["PSP@1"])
    assert math.isnan(found["P@1"])
