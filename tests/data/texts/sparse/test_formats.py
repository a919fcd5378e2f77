"""Layouts of sparse features: the same rows from each, and one line for each mistake."""

import gzip

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.sparse.formats import read_rows
from tests.data.texts.sparse import layouts


def same(rows, features, labels):
    assert (rows.features != features).nnz == 0
    assert (rows.labels != labels).nnz == 0
    assert rows.features.shape == features.shape
    assert rows.labels.shape == labels.shape


@pytest.mark.parametrize("layout", layouts.WRITERS)
def test_every_layout_holds_the_same_rows(layout, tmp_path):
    layouts.WRITERS[layout](tmp_path)
    found = read_rows(tmp_path)
    for split, (features, labels) in layouts.made().items():
        same(getattr(found, split), features, labels)
    assert len(found.label_names) == layouts.LABELS


def test_files_may_be_packed(tmp_path):
    layouts.two_files(tmp_path)
    for path in list(tmp_path.glob("trn_*.txt")):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    same(read_rows(tmp_path).train, *layouts.made()["train"])


def test_names_and_labels_to_drop_are_read(tmp_path):
    layouts.two_files(tmp_path)
    found = read_rows(tmp_path)
    assert found.label_names[3] == "label 3"
    assert found.test.filtered[0].indices.tolist() == [8]
    assert found.test.filtered.nnz == 2
    assert not found.train.filtered


def test_the_rows_to_test_may_be_missing(tmp_path):
    layouts.pecos(tmp_path)
    for path in tmp_path.glob("*.tst.npz"):
        path.unlink()
    found = read_rows(tmp_path)
    assert found.test is None
    assert found.valid is not None


def test_a_file_that_counts_from_1_is_told_by_its_missing_0(tmp_path):
    layouts.svmlight(tmp_path, first=1)
    found = read_rows(tmp_path)
    for split, (features, labels) in layouts.made().items():
        same(getattr(found, split), features, labels)


def test_svmlight_files_of_different_width_are_as_wide_as_the_widest(tmp_path):
    (tmp_path / "train.svm").write_text("0 0:1\n1 4:1\n")
    (tmp_path / "test.svm").write_text("3 2:1\n")
    found = read_rows(tmp_path)
    assert found.train.features.shape == (2, 5)
    assert found.test.features.shape == (1, 5)
    assert found.train.labels.shape[1] == found.test.labels.shape[1] == 4


def test_an_unknown_folder_says_what_is_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"no known layout.*train\.txt.*trn_X_Xf\.txt.*X\.trn\.npz.*train\.svm"):
        read_rows(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        read_rows(tmp_path / "missing")


def test_splits_of_different_width_are_an_error(tmp_path):
    layouts.pecos(tmp_path)
    scipy.sparse.save_npz(tmp_path / "X.tst.npz", scipy.sparse.csr_matrix((layouts.ROWS["test"], 7), dtype=np.float32))
    with pytest.raises(DataError, match=r"X\.tst\.npz has 7 features and 9 labels, but .*X\.trn\.npz 30 and 9"):
        read_rows(tmp_path)


def test_features_and_labels_of_different_number_are_an_error(tmp_path):
    layouts.pecos(tmp_path)
    scipy.sparse.save_npz(tmp_path / "Y.trn.npz", scipy.sparse.csr_matrix((3, 9), dtype=np.float32))
    with pytest.raises(DataError, match=r"X\.trn\.npz has 48 rows, but .*Y\.trn\.npz has labels for 3"):
        read_rows(tmp_path)


def test_more_or_fewer_names_than_labels_are_an_error(tmp_path):
    layouts.two_files(tmp_path)
    (tmp_path / "Yf.txt").write_text("one\n")
    with pytest.raises(DataError, match=r"Yf\.txt names 1 labels"):
        read_rows(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive"])
def test_a_damaged_matrix_is_named(content, tmp_path):
    layouts.pecos(tmp_path)
    (tmp_path / "X.trn.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"X\.trn\.npz"):
        read_rows(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named_by_row(value, tmp_path):
    layouts.folders(tmp_path)
    features, _ = layouts.made()["train"]
    features.data[features.indptr[5]] = value
    scipy.sparse.save_npz(tmp_path / "train" / "features.npz", features)
    with pytest.raises(DataError, match=rf"row 5 has a value of feature {features.indices[features.indptr[5]]}"):
        read_rows(tmp_path)
