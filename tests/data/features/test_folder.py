"""Folders of features with labels: what is read of them, and one line for each mistake."""

import shutil

import numpy as np
import pytest
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.dataset import DataError
from mhe_jax.data.features.labels import read_names
from mhe_jax.data.features.writer import FolderWriter
from mhe_jax.data.propensity import inverse_propensity
from tests.data.features.rows import CLASSES, ROWS, WIDTH, write_features


@pytest.fixture
def one(tmp_path):
    write_features(tmp_path)
    return tmp_path


@pytest.fixture
def many(tmp_path):
    write_features(tmp_path, multilabel=True)
    return tmp_path


def data(folder, name="features", **fields):
    return build_data(ConfigDict({"name": name, "path": str(folder), "features_dim": 0, **fields}))


def load(folder, name="features", **fields):
    return data(folder, name, **fields).load()


def matrix(folder, split):
    return scipy.sparse.load_npz(folder / split / "labels.npz")


def test_val_chooses_and_test_is_evaluated_once(one):
    made = data(one)
    found = made.load()
    assert [split.num_examples for split in (found.train, found.eval, found.test)] == list(ROWS.values())
    assert (made.num_classes, made.features_dim) == (CLASSES, WIDTH)
    assert found.class_names == ()
    assert found.train.labels.dtype == np.int32
    np.testing.assert_array_equal(found.eval.labels, np.load(one / "val" / "labels.npy"))
    assert isinstance(found.train.features.base, np.memmap)
    assert found.facts["chosen_on"] == "val"


def test_test_chooses_where_it_is_alone(one):
    shutil.rmtree(one / "val")
    found = load(one)
    assert found.eval.num_examples == ROWS["test"]
    assert found.test is None
    assert found.facts["chosen_on"] == "test"


def test_names_of_classes_in_their_file_are_ids_by_line(one):
    names = [f"class {number}" for number in range(CLASSES)][::-1]
    (one / "classes.txt").write_text("".join(f"{name}\n" for name in [*names, ""]))
    assert load(one).class_names == tuple(names)
    numbers = np.load(one / "train" / "labels.npy")
    for split in ROWS:
        np.save(one / split / "labels.npy", np.array(names)[np.load(one / split / "labels.npy")])
    np.testing.assert_array_equal(load(one).train.labels, numbers)


def test_names_without_a_file_are_sorted(one):
    for split in ROWS:
        np.save(one / split / "labels.npy", np.array(list("zyxwvutsrqp"))[np.load(one / split / "labels.npy")])
    found = load(one)
    assert found.class_names == tuple("pqrstuvwxyz")
    assert found.class_names[found.eval.labels[4]] == np.load(one / "val" / "labels.npy")[4]


def test_more_classes_than_occur_may_be_said(one):
    made = data(one, num_classes=40)
    made.load()
    assert made.num_classes == 40


def test_many_labels_have_propensities_of_training_rows(many):
    found = load(many, "features_multilabel")
    np.testing.assert_array_equal(found.train.labels.toarray(), matrix(many, "train").toarray())
    assert found.train.inverse_propensity is None
    assert found.train.filtered is None
    np.testing.assert_array_equal(
        found.test.inverse_propensity, inverse_propensity(matrix(many, "train").tocsr(), 0.55, 1.5)
    )


def test_filtered_labels_are_those_of_evaluation(many):
    for split in ("train", "test"):
        scipy.sparse.save_npz(many / split / "filtered.npz", matrix(many, split))
    found = load(many, "features_multilabel")
    np.testing.assert_array_equal(found.test.filtered.toarray(), matrix(many, "test").toarray())
    assert found.train.filtered is None
    assert found.eval.filtered is None


def test_any_sparse_format_is_read_without_zeros_and_repetitions(many):
    (rows, columns), values = (np.array([[2, 0, 2, 1], [5, 4, 5, 0]])), [0.5, 1.0, 0.25, 0.0]
    whole = scipy.sparse.coo_matrix((values, (rows, columns)), (ROWS["train"], CLASSES))
    scipy.sparse.save_npz(many / "train" / "labels.npz", whole)
    labels = load(many, "features_multilabel").train.labels
    assert labels.nnz == 2
    assert labels[2, 5] == 0.75
    assert labels.indptr[2] == 1


def test_a_negative_label_is_an_error(many):
    whole = scipy.sparse.coo_matrix(([1.0, -0.5], ([2, 3], [5, 4])), (ROWS["train"], CLASSES))
    scipy.sparse.save_npz(many / "train" / "labels.npz", whole)
    with pytest.raises(DataError, match="train/labels.npz holds a negative value: a label is there, above 0, or not"):
        load(many, "features_multilabel")


def test_splits_that_are_too_large_for_the_device_stay_on_disk(one):
    assert load(one).train.resident
    assert not load(one, device_mebibytes=0).train.resident


def rewrite(name, change):
    """A change of one array of a split."""

    def apply(folder):
        np.save(folder / name, change(np.load(folder / name)))

    return apply


def with_value(place, value):
    def change(array):
        array[place] = value
        return array

    return change


def names_file(count):
    return lambda folder: (folder / "classes.txt").write_text("".join(f"c{i}\n" for i in range(count)))


WRONG = {
    "rows": (
        rewrite("val/labels.npy", lambda a: a[:-1]),
        r"val/labels\.npy has 20 rows, but the features beside it have 21",
    ),
    "NaN": (rewrite("val/features.npy", with_value((7, 2), np.nan)), r"val/features\.npy: row 7 holds a NaN"),
    "width": (
        rewrite("val/features.npy", lambda a: np.ascontiguousarray(a[:, 1:])),
        r"val/features\.npy has 11 features a row, but 12 are expected",
    ),
    "class": (
        names_file(9),
        r"train/labels\.npy: row \d+ has label \d+, but .*classes\.txt says that there are 9 classes",
    ),
    "negative class": (
        rewrite("test/labels.npy", with_value(3, -1)),
        r"test/labels\.npy: row 3 has label -1, but .*train/labels\.npy says that there are 11 classes",
    ),
    "float labels": (
        rewrite("train/labels.npy", lambda a: a.astype(np.float32)),
        r"train/labels\.npy holds float32 \[66\]; labels must be integers or strings",
    ),
    "two labels a row": (
        rewrite("train/labels.npy", lambda a: np.stack([a, a], axis=1)),
        r"train/labels\.npy holds int64 \[66, 2\]",
    ),
    "strings in one split": (
        rewrite("val/labels.npy", lambda a: a.astype(str)),
        r"val/labels\.npy holds <U\d+ labels, but that of train/ int64",
    ),
    "no labels": (lambda folder: (folder / "val" / "labels.npy").unlink(), r"val/labels\.npy: cannot be read"),
    "no features": (lambda folder: (folder / "val" / "features.npy").unlink(), r"val/features\.npy: cannot be read"),
    "blank name": (
        lambda folder: (folder / "classes.txt").write_text("a\n\nb\n"),
        r"classes\.txt:2: the line is blank, but each names a class",
    ),
    "empty names": (lambda folder: (folder / "classes.txt").touch(), r"classes\.txt is empty"),
    "nothing to evaluate": (
        lambda folder: [shutil.rmtree(folder / name) for name in ("val", "test")],
        r"holds no val/ or test/ folder with features\.npy and labels to evaluate",
    ),
    "nothing to train on": (lambda folder: shutil.rmtree(folder / "train"), r"holds no train/ folder"),
}


@pytest.mark.parametrize("change", WRONG)
def test_a_mistake_is_one_line_that_names_the_file(one, change):
    spoil, message = WRONG[change]
    spoil(one)
    with pytest.raises(DataError, match=message) as error:
        load(one)
    assert "\n" not in str(error.value)
    assert str(one) in str(error.value)


def test_a_name_that_no_class_has_is_told_with_its_row(one):
    for split in ROWS:
        np.save(one / split / "labels.npy", np.array(list("ABCDEFGHIJK"))[np.load(one / split / "labels.npy")])
    rewrite("val/labels.npy", with_value(4, "b"))(one)
    with pytest.raises(
        DataError,
        match=r"val/labels\.npy: row 4 has label 'b', which is none of the 11 .*'B' there differs .* capitals",
    ):
        load(one)
    (one / "classes.txt").write_text("A\n" * CLASSES)
    with pytest.raises(DataError, match=r"classes\.txt lists a name twice, but labels are names"):
        load(one)


def test_the_other_kind_of_labels_is_told_with_what_to_do(one, tmp_path_factory):
    with pytest.raises(
        DataError, match=r"holds labels\.npy, one label for each row: set config\.data\.name = 'features'"
    ):
        load(one, "features_multilabel")
    many = tmp_path_factory.mktemp("many")
    write_features(many, multilabel=True)
    with pytest.raises(DataError, match=r"holds labels\.npz, .*: set config\.data\.name = 'features_multilabel'"):
        load(many)


def test_matrices_of_other_shapes_are_told(many):
    (many / "classes.txt").write_text("c\n" * (CLASSES + 1))
    with pytest.raises(DataError, match=r"train/labels\.npz has 11 columns, but .*classes\.txt 12 labels"):
        load(many, "features_multilabel")
    (many / "classes.txt").unlink()
    scipy.sparse.save_npz(many / "val" / "filtered.npz", matrix(many, "val")[:, 1:])
    with pytest.raises(DataError, match=r"val/filtered\.npz has 10 columns, but .*train/labels\.npz 11 labels"):
        load(many, "features_multilabel")
    scipy.sparse.save_npz(many / "val" / "labels.npz", matrix(many, "val")[1:])
    with pytest.raises(DataError, match=r"val/labels\.npz has 20 rows, but the features beside it have 21"):
        load(many, "features_multilabel")
    (many / "train" / "labels.npz").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"train/labels\.npz is no sparse matrix that scipy"):
        load(many, "features_multilabel")


def test_a_training_split_without_any_label_is_told(many):
    scipy.sparse.save_npz(many / "train" / "labels.npz", scipy.sparse.csr_matrix((ROWS["train"], CLASSES)))
    with pytest.raises(DataError, match=r"train/labels\.npz: none of the 66 rows has a label"):
        load(many, "features_multilabel")


def test_rows_that_choose_have_labels_and_rows_to_test_may_have_none(many):
    for split in ("test", "val"):
        scipy.sparse.save_npz(many / split / "labels.npz", scipy.sparse.csr_matrix((ROWS[split], CLASSES)))
        if split == "test":
            assert load(many, "features_multilabel").test.labels.nnz == 0
    with pytest.raises(DataError, match=r"val/labels\.npz: none of the 21 rows to choose the best checkpoint on has a"):
        load(many, "features_multilabel")


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_no_folder_is_told(path):
    with pytest.raises(DataError, match=rf"config\.data\.path is '{path}', which is not a folder"):
        load(path)


def test_the_constants_of_propensities_are_checked():
    with pytest.raises(ValueError, match=r"config\.data\.propensity is \(1\.0,\)"):
        data("/nowhere", "features_multilabel", propensity=(1.0,))


def test_each_class_of_a_written_folder_has_a_line(tmp_path):
    FolderWriter(tmp_path / "out", {}).close(["ant", "", " ", "bee"])
    assert read_names(tmp_path / "out") == ("ant", "1", "2", "bee")
