"""Data sets of sparse features: which rows train and choose, how rows are cut, and what a batch holds."""

import numpy as np
import pytest
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.dataset import DataError
from mhe_jax.data.feeds import eval_feed, train_feed
from mhe_jax.data.propensity import inverse_propensity
from mhe_jax.data.texts.sparse.rows import longest
from tests.data.texts.sparse import layouts


def data(folder, **fields):
    return build_data(ConfigDict({"name": "sparse", "path": str(folder), **fields}))


@pytest.fixture
def folder(tmp_path):
    layouts.one_file(tmp_path)
    return tmp_path


def test_validation_rows_choose_and_test_rows_are_evaluated_once(folder):
    made = data(folder)
    found = made.load()
    sizes = [split.num_examples for split in (found.train, found.eval, found.test)]
    assert sizes == [layouts.ROWS[name] for name in ("train", "valid", "test")]
    assert (made.features_dim, made.num_classes) == (layouts.FEATURES, layouts.LABELS)


def test_without_validation_rows_some_are_held_out_of_training(folder):
    (folder / "valid.txt").unlink()
    found = data(folder, valid_examples=8).load()
    assert (found.train.num_examples, found.eval.num_examples) == (40, 8)
    features, labels = layouts.made()["train"]
    together = scipy.sparse.vstack([found.train.matrix, found.eval.matrix]).toarray()
    assert sorted(map(tuple, together)) == sorted(map(tuple, features.toarray()))
    # Propensities are those of all training rows.
    np.testing.assert_allclose(found.eval.inverse_propensity, inverse_propensity(labels, 0.55, 1.5), rtol=1e-6)


def test_nothing_to_evaluate_on_is_an_error(folder):
    (folder / "valid.txt").unlink()
    (folder / "test.txt").unlink()
    with pytest.raises(DataError, match=r"nothing to evaluate on; set config\.data\.valid_examples"):
        data(folder).load()
    assert data(folder, valid_examples=0.25).load().eval.num_examples == 12


def test_rows_that_choose_have_labels_and_rows_to_test_may_have_none(tmp_path):
    layouts.pecos(tmp_path)
    nothing = scipy.sparse.csr_matrix((layouts.ROWS["test"], layouts.LABELS), dtype=np.float32)
    scipy.sparse.save_npz(tmp_path / "Y.tst.npz", nothing)
    assert data(tmp_path).load().test.labels.nnz == 0
    for path in tmp_path.glob("*.val.npz"):
        path.unlink()
    with pytest.raises(DataError, match=r"X\.tst\.npz: none of the 16 rows to choose .* by config\.data\.valid"):
        data(tmp_path).load()


def test_at_most_so_many_rows(folder):
    found = data(folder, max_train=9, max_eval=5).load()
    assert (found.train.num_examples, found.eval.num_examples, found.test.num_examples) == (9, 5, 5)


@pytest.mark.parametrize("layout", ["one file", "two files", "svmlight"])
def test_a_training_batch_holds_the_first_labels_of_the_line(tmp_path, layout):
    labels, pairs = ["3,1,3,0", "2", "3,2,0"], ["0:1", "1:1", "0:1 1:1"]
    rows = [" ".join(row) for row in zip(labels, pairs, strict=True)]
    relevances = [" ".join(f"{label}:1" for label in row.split(",")) for row in labels]
    files = {
        "one file": {"{split}.txt": ["3 2 4", *rows]},
        "two files": {"{short}_X_Xf.txt": ["3 2", *pairs], "{short}_X_Y.txt": ["3 4", *relevances]},
        "svmlight": {"{split}.svm": rows},
    }
    for split, short in (("train", "trn"), ("test", "tst")):
        for name, lines in files[layout].items():
            (tmp_path / name.format(split=split, short=short)).write_text("".join(f"{line}\n" for line in lines))
    for most in (3, 2):
        train = data(tmp_path, label_width=2, max_train=most).load().train
        assert train.num_examples == most
        found = train_feed(train, most, seed=0).chunk(0, 1)["label"][0].tolist()
        wanted = [[3, 1] if 1 in row.indices else [2, -1] if row.nnz == 1 else [3, 2] for row in train.labels]
        assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize(
    ("fields", "message"), [({"features_dim": 7}, "features_dim is 7"), ({"num_classes": 3}, "is 3")]
)
def test_sizes_of_the_config_are_checked(fields, message, folder):
    with pytest.raises(DataError, match=message):
        data(folder, **fields).load()


def test_long_rows_keep_the_largest_magnitudes():
    matrix = scipy.sparse.csr_matrix([[1.0, -3, 2, 2], [0, 1, 0, 0], [0, 0, 0, 0]])
    cut, lost = longest(matrix, 2)
    assert cut.toarray().tolist() == [[0, -3, 2, 0], [0, 1, 0, 0], [0] * 4]
    assert lost == 1
    assert longest(matrix, 4)[0] is matrix


def test_batches_hold_the_rows(folder):
    found = data(folder, max_row_features=24, bucket_lengths=(4, 8)).load()
    features, labels = layouts.made()["train"]
    seen = []
    feed = train_feed(found.train, 8, seed=0)
    for step in range(feed.steps_per_epoch):
        piece = {name: value[0] for name, value in feed.chunk(step, 1).items()}
        assert piece["feature_ids"].dtype == np.int32
        assert piece["feature_values"].dtype == np.float32
        assert piece["feature_ids"].shape[1] in (4, 8, 24)
        dense = np.zeros((8, layouts.FEATURES))
        np.add.at(dense, (np.arange(8)[:, None], piece["feature_ids"]), piece["feature_values"])
        seen += [(tuple(row), tuple(y[y >= 0])) for row, y in zip(dense, piece["label"], strict=True)]
    assert sorted(seen) == sorted((tuple(x), tuple(y.indices)) for x, y in zip(features.toarray(), labels, strict=True))


def test_evaluation_has_each_row_once_with_what_it_drops(tmp_path):
    layouts.two_files(tmp_path)
    found = data(tmp_path).load()
    feed = eval_feed(found.test, 8)
    chunks = [feed.chunk(step, 1) for step in range(feed.steps_per_epoch)]
    index = np.concatenate([chunk["index"][0] for chunk in chunks])
    filtered = np.concatenate([chunk["filtered"][0] for chunk in chunks])
    assert sorted(index) == list(range(layouts.ROWS["test"]))
    assert {int(i): int(f) for i, (f,) in zip(index, filtered, strict=True) if f >= 0} == {0: 8, 3: 1}
