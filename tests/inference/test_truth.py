import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.features.folder import FeatureFolder
from mhe_jax.data.texts.folder import XmcText
from mhe_jax.data.texts.synthetic import SyntheticText
from mhe_jax.inference.truth import chosen, present, true_splits


def test_which_split_is_meant_and_whether_it_is_held_out():
    both = ("train", "eval", "test")
    assert [chosen(both, which) for which in (None, "test", "val")] == [
        ("test", False),
        ("test", False),
        ("eval", True),
    ]
    assert [chosen(both[:2], which) for which in (None, "val")] == [("eval", False), ("eval", False)]
    with pytest.raises(ValueError, match="--split=test: this data has no test documents beside those that choose"):
        chosen(both[:2], "test")


def test_texts_need_no_tokenizer(tmp_path):
    for split, count in (("train", 20), ("test", 5)):
        (tmp_path / f"{split}_raw_texts.txt").write_text("red fox\n" * count)
        (tmp_path / f"{split}_labels.txt").write_text("a\n" + "a b\n" * (count - 1))
    data = XmcText(path=str(tmp_path), valid_examples=4)
    found, names = true_splits(data)
    assert names == ("a", "b")
    assert data.num_classes == 2
    assert {name: truth.labels.shape for name, truth in found.items()} == {
        "train": (16, 2),
        "eval": (4, 2),
        "test": (5, 2),
    }
    assert found["test"].labels.toarray().tolist() == [[1, 0]] + [[1, 1]] * 4
    assert found["test"].filtered is None
    np.testing.assert_array_equal(found["test"].inverse_propensity, data.inverse_propensity())
    with pytest.raises(DataError, match="config.data.num_classes is 3 but .* has 2 labels"):
        true_splits(XmcText(path=str(tmp_path), num_classes=3))


def test_one_label_a_row_is_a_matrix_too(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "features.npy", np.ones((3, 2), np.float32))
        np.save(tmp_path / split / "labels.npy", np.array([2, 0, 2]))
    found, _ = true_splits(FeatureFolder(path=str(tmp_path), features_dim=0))
    assert list(found) == ["train", "eval"]
    assert found["eval"].labels.toarray().tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert found["eval"].inverse_propensity is None


def test_what_is_loaded_is_not_loaded_again():
    data = SyntheticText(num_classes=5, num_examples=9, num_eval_examples=3)
    loaded = data.load()
    found, _ = true_splits(data, loaded)
    assert list(found) == list(present(loaded)) == ["train", "eval"]
    assert found["eval"].labels is loaded.eval.labels
    assert scipy.sparse.issparse(found["train"].labels)
