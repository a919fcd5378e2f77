import json

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.ragged import top_of
from mhe_jax.inference import predictions

IDS = np.array([[4, 0, 2], [1, -1, -1], [-1, -1, -1], [3, 2, 5]])
SCORES = np.array([[0.9, 0.5, 0.25], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.125]], np.float32)


@pytest.fixture
def workdir(tmp_path):
    """Written in two batches, out of order."""
    writer = predictions.PredictionsWriter(tmp_path, "test", 4, 7, 3)
    writer.add(np.array([3, 0]), IDS[[3, 0]], SCORES[[3, 0]])
    writer.add(np.array([1, 2]), IDS[1:3], SCORES[1:3])
    writer.close()
    return tmp_path


def test_what_is_written_is_read_in_document_order(workdir):
    found = predictions.read_predictions(workdir)
    assert (found.split, found.top_k, found.scores.shape) == ("test", 3, (4, 7))
    dense = found.scores.toarray()
    np.testing.assert_allclose(dense[0], [0.5, 0, 0.25, 0, 0.9, 0, 0])
    assert json.loads((workdir / "predictions.json").read_text())["documents"] == 4
    assert scipy.sparse.load_npz(workdir / "predictions.npz").dtype == np.float32


def test_a_score_of_zero_is_still_a_prediction(workdir):
    scores = predictions.read_predictions(workdir).scores
    assert scores[1].indices.tolist() == [1]
    assert scores[1].data[0] < 1e-30
    assert scores[2].nnz == 0


def test_top_of_sorts_each_row_and_breaks_ties_by_label(workdir):
    scores = predictions.read_predictions(workdir).scores
    ids, values = top_of(scores, 2)
    np.testing.assert_array_equal(ids, [[4, 0], [1, -1], [-1, -1], [2, 3]])
    np.testing.assert_allclose(values[0], [0.9, 0.5])
    wide, _ = top_of(scores, 5)
    np.testing.assert_array_equal(wide[3], [2, 3, 5, -1, -1])


def test_missing_and_damaged_files_are_named(workdir, tmp_path):
    with pytest.raises(ValueError, match=r"elsewhere has no predictions.npz; make it with: mhe predict"):
        predictions.read_predictions(tmp_path / "elsewhere")
    whole = (workdir / "predictions.npz").read_bytes()
    (workdir / "predictions.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"predictions.npz or predictions.json is damaged"):
        predictions.read_predictions(workdir)
    (workdir / "predictions.npz").write_bytes(whole)
    (workdir / "predictions.json").write_text('{"split": "test", "documents": 5, "labels": 7, "top_k": 3}')
    with pytest.raises(ValueError, match=r"holds \(4, 7\) scores but predictions.json says \(5, 7\)"):
        predictions.read_predictions(workdir)


def test_what_is_no_matrix_of_probabilities_is_refused(workdir):
    path = workdir / "predictions.npz"
    matrix = scipy.sparse.load_npz(path)
    for value in (np.nan, -1.0, 0.0):
        matrix.data[0] = value
        predictions.save(path, matrix)
        with pytest.raises(ValueError, match="holds scores that are no positive numbers"):
            predictions.read_predictions(workdir)
    matrix.data[0], matrix.indices[0] = 0.5, 7
    predictions.save(path, matrix)
    with pytest.raises(ValueError, match=r"predictions.npz or predictions.json is damaged"):
        predictions.read_predictions(workdir)


def test_a_document_that_was_forgotten_is_no_document_without_labels(tmp_path):
    writer = predictions.PredictionsWriter(tmp_path, "eval", 4, 7, 3)
    writer.add(np.array([0, 3]), IDS[[0, 3]], SCORES[[0, 3]])
    with pytest.raises(ValueError, match="2 of 4 documents of the split 'eval' have no predictions"):
        writer.close()
    assert not list(tmp_path.iterdir())


def test_saving_replaces_the_file_and_leaves_nothing_else(workdir):
    predictions.save(workdir / "predictions.npz", scipy.sparse.csr_matrix((4, 7), dtype=np.float32))
    assert predictions.read_predictions(workdir).scores.nnz == 0
    assert sorted(path.name for path in workdir.iterdir()) == ["predictions.json", "predictions.npz"]
