"""The figures by which a run knows its data: what changes them, what does not, and what a start with others says."""

import shutil

import numpy as np
import PIL.Image
import pytest
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data import build_data
from mhe_jax.data.dataset import ArraySplit, DataError, PairedSplit, Pairs
from mhe_jax.data.faces.eval_sets import FileSource
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.texts.dataset import Texts, TextSplit
from mhe_jax.train import data_digest, experiment
from mhe_jax.train.data_digest import differences, figures


def pictures(root, **counts):
    """Class folders with as many pictures each, the same ones to train and to evaluate on."""
    for split in ("train", "val"):
        for name, count in counts.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                PIL.Image.new("L", (8, 8), i).save(root / split / name / f"{i}.png")
    return root


def of_folder(root, **fields):
    return figures(
        build_data(ConfigDict({"name": "image_folder", "path": str(root), "image_size": 8, **fields})).load()
    )


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "pictures", a=3, b=2)


def test_the_same_pictures_elsewhere_are_the_same_data(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other" / "place")
    assert of_folder(folder) == of_folder(tmp_path / "other" / "place", num_workers=2)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_picture_less_is_told_by_sizes_first(folder, in_memory):
    before = of_folder(folder, in_memory=in_memory)
    (folder / "train" / "a" / "1.png").unlink()
    found = differences(of_folder(folder, in_memory=in_memory), before)
    assert found[:2] == ["examples of train: 4, 5 there", "labels of train differ"]
    assert not any("eval" in text for text in found)


def test_a_picture_of_another_name_or_class_is_told(folder):
    before = of_folder(folder)
    (folder / "train" / "a" / "1.png").rename(folder / "train" / "a" / "9.png")
    assert differences(of_folder(folder), before) == ["sources of train differ"]
    (folder / "train" / "a" / "9.png").rename(folder / "train" / "b" / "1.PNG")
    assert differences(of_folder(folder), before) == ["labels of train differ", "sources of train differ"]


def test_class_names_count(folder, tmp_path):
    before = of_folder(folder)
    for split in ("train", "val"):
        (folder / split / "b").rename(folder / split / "c")
    assert "names of classes differ" in differences(of_folder(folder), before)


def documents(lengths, labels):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TextSplit(np.zeros(offsets[-1], np.int32), offsets, scipy.sparse.csr_matrix(labels), 2, (16,), 1)


def test_texts_are_known_by_their_lengths_and_labels():
    split = documents([3, 4], [[0, 1], [1, 1]])
    of = lambda train: figures(Texts(train, split, None, (), {}))
    before = of(split)
    assert of(documents([3, 4], [[0, 1], [1, 1]])) == before
    assert differences(of(documents([4, 3], [[0, 1], [1, 1]])), before) == ["lengths of train differ"]
    assert differences(of(documents([3, 4], [[1, 0], [1, 1]])), before) == ["labels of train differ"]


def test_pairs_and_the_width_of_numbers():
    images = np.zeros((2, 8, 8, 1), np.uint8)
    train = ArraySplit(images, np.array([0, 1], np.int32))

    def of(dtype, same):
        rows = np.array([0, 1], dtype)
        pairs = Pairs("lfw", rows, rows[::-1], np.array([same, True]))
        return figures(Images(train, PairedSplit(train, (pairs,)), ()))

    assert of(np.int32, True) == of(np.int64, True)
    assert differences(of(np.int32, False), of(np.int32, True)) == ["pairs of eval differ"]


def test_files_are_named_from_their_common_folder():
    of = lambda root: data_digest._digest(FileSource([f"{root}/a/1.png", f"{root}/b/2.png"]))
    assert of("/here") == of("/over/there")
    assert data_digest._digest(("ab", "c")) != data_digest._digest(("a", "bc"))


def test_a_run_goes_on_with_its_own_data_only(tmp_path):
    config, classes = ConfigDict({"data": {"name": "synthetic"}}), experiment.Classes(3, ())
    claim = lambda examples: experiment.claim_workdir(
        tmp_path, config, classes, figures={"examples of train": examples}
    )
    claim(54)
    claim(60)  # nothing has been trained yet
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    claim(60)
    with pytest.raises(DataError, match="examples of train: 54, 60 there"):
        claim(54)


def test_figures_are_compared_where_both_have_them(tmp_path):
    data_digest.check_unchanged(tmp_path, {"examples of train": 60})  # of a run that kept none
    (tmp_path / "data.json").write_text('{"examples of train": 60, "labels of train": "ab", "of a later version": 1}')
    data_digest.check_unchanged(tmp_path, {"examples of train": 60, "labels of train": "ab"})
    with pytest.raises(
        DataError, match=r"not what .* was trained on: examples of train: 54, 60 there; labels of train d"
    ):
        data_digest.check_unchanged(tmp_path, {"examples of train": 54, "labels of train": "cd"})
