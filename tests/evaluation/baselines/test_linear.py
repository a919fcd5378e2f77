"""One-vs-rest, against scikit-learn's own minimiser and by hand."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

from mhe_jax.evaluation.baselines import linear


@pytest.fixture
def data():
    """Label 3 is never given, label 4 always."""
    rng = np.random.default_rng(0)
    rows = np.where(rng.random((41, 6)) < 0.4, rng.random((41, 6)), 0)
    has = rows @ rng.normal(size=(6, 5)) + 0.3 * rng.normal(size=(41, 5)) > 0.2
    has[:, 3], has[:, 4] = False, True
    return scipy.sparse.csr_matrix(rows.astype(np.float32)), scipy.sparse.csr_matrix(has.astype(np.float32))


def margins(rows, has, queries):
    """Minimises |w|^2 / 2 + sum of max(0, 1 - y (w x + b))^2 with b among the weights."""
    x, y = np.c_[rows, np.ones(len(rows))], np.where(has, 1, -1)

    def loss(w):
        short = np.maximum(0, 1 - y * (x @ w))
        return w @ w / 2 + short @ short, w - 2 * (short * y) @ x

    found = scipy.optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, tol=1e-12)
    return np.c_[queries, np.ones(len(queries))] @ found.x


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("block", [1, 10**6])
def test_margins_are_the_minimum_of_the_loss(data, sparse, block, monkeypatch):
    monkeypatch.setattr(linear, "_TASK", 2)
    monkeypatch.setattr(linear, "_TOLERANCE", 1e-8)
    rows, labels = data
    model = linear.OneVsRest(prune=0, threads=2, block=block)
    rows = rows if sparse else rows.toarray()
    model.fit(rows, labels)
    ids, scores = model.rank(rows[:7], 6)
    dense, has = data[0].toarray().astype(np.float64), labels.toarray() > 0
    expected = np.stack([margins(dense, has[:, label], dense[:7]) for label in (0, 1, 2)] + [np.ones(7)], axis=1)
    order = np.argsort(-expected, axis=1)
    np.testing.assert_array_equal(ids, np.c_[np.array([0, 1, 2, 4])[order], np.full((7, 2), -1)])
    sigmoid = 1 / (1 + np.exp(-6 * np.take_along_axis(expected, order, axis=1)))
    np.testing.assert_allclose(scores[:, :4], sigmoid, rtol=1e-4)
    assert (scores[:, 4:] == 0).all()
    assert (ids.dtype, scores.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(model.rank(rows[:7], 2)[0], ids[:, :2])


def test_small_weights_are_dropped(data):
    rows, labels = data
    whole, pruned = linear.OneVsRest(prune=0), linear.OneVsRest(prune=0.5)
    for model in (whole, pruned):
        model.fit(rows, labels)
    kept = pruned._weights.toarray()
    assert 0 < pruned._weights.nnz < whole._weights.nnz
    np.testing.assert_allclose(kept[kept != 0], whole._weights.toarray()[kept != 0])
    assert np.abs(kept[kept != 0]).min() >= 0.5
    dropped = whole._weights.toarray()[kept == 0]
    assert np.abs(dropped).max() < 0.5
