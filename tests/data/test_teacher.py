"""A teacher's file: what it must hold, its temperature, and its mixture with labels."""

import numpy as np
import pytest
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.dataset import DataError
from mhe_jax.data.teacher import build_distillation, mixed, read_scores, tempered

SCORES = np.array([[0.5, 0.25, 0.0], [0.0, 0.0, 0.0], [0.0, 0.1, 0.4]], np.float32)


def saved(folder, matrix):
    path = folder / "scores.npz"
    scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(matrix))
    return path


def test_a_temperature_softens_the_best_classes_among_themselves(tmp_path):
    scores = read_scores(saved(tmp_path, SCORES), 3, 3)
    np.testing.assert_allclose(
        tempered(scores, 1.0).toarray(), [[2 / 3, 1 / 3, 0], [0, 0, 0], [0, 0.2, 0.8]], rtol=1e-6
    )
    np.testing.assert_allclose(tempered(scores, 2.0).toarray()[2], [0, 1 / 3, 2 / 3], rtol=1e-6)


def test_a_row_without_scores_keeps_its_labels(tmp_path):
    labels = scipy.sparse.csr_matrix(np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], np.float32))
    found = mixed(labels, read_scores(saved(tmp_path, SCORES), 3, 3), 0.4)
    np.testing.assert_allclose(found.toarray(), [[0.8, 0.1, 0], [0, 1, 0], [0.6, 0.04, 0.16]], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m[:2], "has 2 rows, but there are 3 training examples"),
        (lambda m: m[:, :2], "has 2 columns, but there are 3 classes"),
        (lambda m: np.where(m == 0.4, -0.4, m), "row 2 has -0.4 for class 2; it must be finite and 0 or more"),
        (lambda m: np.where(m == 0.25, np.nan, m), "row 0 has nan for class 1"),
        (lambda m: np.where(m == 0.25, np.inf, m), "row 0 has inf for class 1"),
        (lambda m: m > 0, "holds bool values; scores are numbers"),
    ],
)
def test_scores_that_do_not_fit_are_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read_scores(saved(tmp_path, change(SCORES)), 3, 3)


def test_ids_beyond_the_classes_and_other_files_are_errors(tmp_path):
    path = tmp_path / "scores.npz"
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_scores(path, 3, 3)
    path.write_bytes(b"nothing of that kind")
    with pytest.raises(DataError, match="is no sparse matrix that scipy.sparse.save_npz wrote"):
        read_scores(path, 3, 3)
    arrays = {"indices": [0, 7], "indptr": [0, 1, 2, 2], "data": [1.0, 1.0], "shape": [3, 3], "format": b"csr"}
    np.savez(path, **{name: np.asarray(value) for name, value in arrays.items()})
    with pytest.raises(DataError, match="is no sparse matrix"):
        read_scores(path, 3, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "scores"}, "config.distillation.file is empty"),
        ({"name": "scores", "file": "x.npz", "temperature": 0.0}, "temperature is 0.0; it must be positive"),
        ({"name": "scores", "file": "x.npz", "temperature": -2.0}, "temperature is -2.0; it must be positive"),
        ({"name": "scores", "file": "x.npz", "weight": 0.0}, "weight is 0.0; it must be above 0 and at most 1"),
        ({"name": "scores", "file": "x.npz", "weight": 1.5}, "weight is 1.5; it must be above 0 and at most 1"),
        ({"name": "none", "file": "x.npz"}, "config.distillation.file is 'x.npz', but distillation.name = 'none'"),
    ],
)
def test_a_bad_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        build_distillation(ConfigDict(fields))
