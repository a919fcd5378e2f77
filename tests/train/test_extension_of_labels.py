"""Runs on rows with many labels that are extended by labels."""

import numpy as np
import pytest
import scipy.sparse

import mhe_jax
from mhe_jax.inference.predict import predict_split
from mhe_jax.inference.predictions import read_predictions
from mhe_jax.train import class_files, experiment, extension
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_features_config
from tests.train.extended import WIDTH

pytestmark = pytest.mark.slow


def test_rows_with_many_labels(tmp_path):
    """Labels without names are their numbers; one of a retired class counts no more."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(9, WIDTH))
    for name, number in (("old", 6), ("new", 9)):
        for split, rows in (("train", 48), ("val", 12)):
            (tmp_path / name / split).mkdir(parents=True)
            labels = (rng.random((rows, number)) < 0.25).astype(np.float32)
            scipy.sparse.save_npz(tmp_path / name / split / "labels.npz", scipy.sparse.csr_matrix(labels))
            np.save(tmp_path / name / split / "features.npy", (labels @ centres[:number]).astype(np.float32))
    config = tiny_features_config.get_config("multilabel", "mhc")
    config.data.path, config.head.head_sizes = str(tmp_path / "old"), (2, 3)
    train_and_evaluate(config, tmp_path / "run")
    class_files.change(tmp_path / "run", lambda classes: classes.without("4"))
    config = extension.config_of(tmp_path / "run", str(tmp_path / "new"), 1.0)
    train_and_evaluate(config, tmp_path / "more", interrupt_at=0)
    rows = np.load(tmp_path / "new" / "val" / "features.npy")
    first, second = mhe_jax.load(tmp_path / "run"), mhe_jax.load(tmp_path / "more")
    assert first.predict(rows, top_k=5) == second.predict(rows, top_k=5)
    result = train_and_evaluate(config, tmp_path / "more")
    assert 0 < result["last"]["P@1"] <= 1
    ranked = read_predictions_of(tmp_path / "more")
    assert ranked.shape == (12, 9)
    assert not ranked[:, 4].nnz
    assert set(ranked.nonzero()[1]) == {0, 1, 2, 3, 5, 6, 7, 8}


@pytest.mark.parametrize("head", ["ohe", "mhc", "mhs", "mhp"])
def test_a_new_label_that_only_the_test_has_is_not_predicted_everywhere(head, tmp_path):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(11, WIDTH))
    for name, number in (("old", 8), ("new", 11)):
        for split, rows in (("train", 200), ("val", 50)):
            (tmp_path / name / split).mkdir(parents=True)
            labels = (rng.random((rows, number)) < 0.2).astype(np.float32)
            if split == "train" and name == "new":
                labels[:, -2:] = 0
            scipy.sparse.save_npz(tmp_path / name / split / "labels.npz", scipy.sparse.csr_matrix(labels))
            noise = 0.1 * rng.normal(size=(rows, WIDTH))
            np.save(tmp_path / name / split / "features.npy", (labels @ centres[:number] + noise).astype(np.float32))
    config = tiny_features_config.get_config("multilabel", head)
    config.data.path, config.total_epochs, config.total_steps = str(tmp_path / "old"), 30.0, 0
    config.head.head_sizes = () if head == "ohe" else (3, 3)
    before = train_and_evaluate(config, tmp_path / "run")["last"]["P@1"]
    assert before > 0.5
    train_and_evaluate(extension.config_of(tmp_path / "run", str(tmp_path / "new"), 1.0), tmp_path / "more")
    ranked = mhe_jax.load(tmp_path / "more").predict(np.load(tmp_path / "new" / "val" / "features.npy"), top_k=1)
    assert np.mean([best[0].id >= 9 for best in ranked]) < 0.15


def read_predictions_of(workdir):
    predict_split(experiment.usable_config(workdir), workdir)
    return read_predictions(workdir).scores.tocsc()
