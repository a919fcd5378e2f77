"""Trees of labels by omikuji, where it is installed."""

import sys

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.evaluation.baselines import trees

LABELS, DOCUMENTS = 7, 140


@pytest.fixture
def separable():
    """Each label has a column of its own; label 6 is never given, and the last rows have no feature, or no label."""
    rng = np.random.default_rng(0)
    has = rng.random((DOCUMENTS, LABELS)) < 0.4
    has[:, 6] = False
    rows = has * rng.uniform(0.5, 1, has.shape)
    rows[-2], has[-1] = 0, False
    return scipy.sparse.csr_matrix(rows.astype(np.float32)), scipy.sparse.csr_matrix(has.astype(np.float32))


@pytest.mark.parametrize("preset", trees.PRESETS)
@pytest.mark.parametrize("sparse", [True, False])
def test_labels_with_a_column_of_their_own_are_found(separable, preset, sparse, capfd):
    pytest.importorskip("omikuji")
    rows, labels = separable
    model = trees.LabelTrees(preset=preset, threads=1)
    model.fit(rows if sparse else rows.toarray(), labels)
    ids, scores = model.rank(rows if sparse else rows.toarray(), 7)
    assert (ids.dtype, scores.dtype, ids.shape, scores.shape) == (np.int32, np.float32, (DOCUMENTS, 7), (DOCUMENTS, 7))
    assert not (ids == 6).any()
    assert (ids[:, 6] == -1).all()
    assert ((scores > 0) == (ids >= 0)).all()
    assert (scores <= 1).all()
    assert (np.diff(scores) <= 0).all()
    for row in range(DOCUMENTS - 2):
        number = labels[[row]].nnz
        assert set(ids[row, :number]) == set(labels[[row]].indices)
    assert capfd.readouterr().out == ""


def test_the_file_that_omikuji_reads(tmp_path):
    rows = scipy.sparse.csr_matrix(np.array([[0.5, 0, 0.25], [0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32))
    labels = scipy.sparse.csr_matrix(np.array([[0.5, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32))
    trees.write_repository_file(tmp_path / "train.txt", rows, labels)
    assert (tmp_path / "train.txt").read_text() == "4 3 4\n0,2 0:0.5 2:0.25\n1\n 1:1\n\n"


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "omikuji", None)
    with pytest.raises(DataError, match=r"omikuji is not installed .*: pip install 'mhe-jax\[omikuji\]'"):
        trees.LabelTrees()
