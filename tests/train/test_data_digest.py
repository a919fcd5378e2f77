"""The figures by which a run knows its data: what changes them, what does not, and what a start with others says."""

import shutil

import numpy as np
import PIL.Image
import pytest
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.dataset import ArraySplit, DataError, PairedSplit, Pairs
from mhe_jax.data.faces.convert import convert
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
    data = build_data(ConfigDict({"name": "image_folder", "path": str(root), "image_size": 8, **fields}))
    return figures(data.load(), data.num_classes)


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
    assert found[:2] == ["train examples: 4, 5 there", "train labels differ"]
    assert not any("eval" in text for text in found)


def test_a_picture_of_another_name_or_class_is_told(folder):
    before = of_folder(folder)
    (folder / "train" / "a" / "1.png").rename(folder / "train" / "a" / "9.png")
    assert differences(of_folder(folder), before) == ["train sources differ"]
    (folder / "train" / "a" / "9.png").rename(folder / "train" / "b" / "1.PNG")
    assert differences(of_folder(folder), before) == ["train labels differ", "train sources differ"]


def test_class_names_count(folder, tmp_path):
    before = of_folder(folder)
    for split in ("train", "val"):
        (folder / split / "b").rename(folder / split / "c")
    assert "class names differ" in differences(of_folder(folder), before)


def documents(lengths, labels):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TextSplit(np.zeros(offsets[-1], np.int32), offsets, scipy.sparse.csr_matrix(labels), 2, (16,), 1)


def test_texts_are_known_by_their_lengths_and_labels():
    split = documents([3, 4], [[0, 1], [1, 1]])
    of = lambda train: figures(Texts(train, split, None, (), {}), 2)
    before = of(split)
    assert of(documents([3, 4], [[0, 1], [1, 1]])) == before
    assert differences(of(documents([4, 3], [[0, 1], [1, 1]])), before) == ["train lengths differ"]
    assert differences(of(documents([3, 4], [[1, 0], [1, 1]])), before) == ["train labels differ"]
    assert differences(of(documents([3, 4], [[0, 2], [1, 1]])), before) == ["train labels differ"]  # their relevance


def test_pairs_and_the_width_of_numbers():
    images = np.zeros((2, 8, 8, 1), np.uint8)
    train = ArraySplit(images, np.array([0, 1], np.int32))

    def of(dtype, same):
        rows = np.array([0, 1], dtype)
        pairs = Pairs("lfw", rows, rows[::-1], np.array([same, True]))
        return figures(Images(train, PairedSplit(train, (pairs,)), ()), 2)

    assert of(np.int32, True) == of(np.int64, True)
    assert differences(of(np.int32, False), of(np.int32, True)) == ["eval pairs differ"]


def test_files_are_named_from_their_common_folder():
    of = lambda root, *names: data_digest._digest(FileSource([f"{root}/{name}" for name in names]).identity())
    assert of("/here", "a/1.png", "b/2.png") == of("there", "a/1.png", "b/2.png")
    assert of("here", "1.png") != of("here", "2.png")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", ""), ("a",)),
        ([np.array([1, 2])], [np.array([[1, 2]])]),
        ([1, 2], [1, 3]),
        ([b"a", b"b"], [b"ab"]),
    ],
)
def test_different_values_have_different_digests(one, other):
    assert data_digest._digest(one) != data_digest._digest(other)


@pytest.mark.parametrize("value", [np.array([object()]), 1.5, {"a": 1}, object()])
def test_what_has_no_lasting_form_has_no_digest(value):
    with pytest.raises(TypeError, match="has no digest"):
        data_digest._digest(value)


def test_how_data_is_read_may_change_between_starts(tmp_path, monkeypatch):
    """The fields of data that a resumed run may set otherwise are not in the figures, nor is where the data lies."""
    monkeypatch.chdir(tmp_path)
    lines = []
    for i in range(12):
        folder = tmp_path / "faces" / f"person{i}"
        folder.mkdir(parents=True)
        for j in range(2):
            PIL.Image.new("RGB", (8, 8), (i, j, 0)).save(folder / f"{j}.png")
        lines.append(f"person{i}/0.png person{i}/1.png 1\nperson{i}/0.png person{(i + 1) % 12}/1.png 0\n")
    convert(tmp_path / "faces", tmp_path / "records")
    (tmp_path / "records" / "pairs.txt").write_text("".join(lines))
    (tmp_path / "faces").rename(tmp_path / "records" / "pictures")

    def of(**fields):
        config = {"path": str(tmp_path / "records"), "image_size": 8, "eval_sets": ("pairs.txt",)}
        config["eval_root"] = "pictures"
        data = build_data(ConfigDict({"name": "face_records", **config, **fields}))
        return figures(data.load(), data.num_classes)

    expected = of()
    assert expected["number of classes"] == 12
    for other in ({"on_bad_example": "skip"}, {"num_workers": 1}, {"path": "records"}):
        assert of(**other) == expected


def test_other_files_are_known_by_what_they_hold(tmp_path):
    of = lambda: data_digest.of_files({"config.class_weights.path": tmp_path / "weights.txt"})
    missing = of()
    (tmp_path / "weights.txt").write_text("a 1\n")
    before = of()
    (tmp_path / "weights.txt").write_text("a 2\n")
    assert differences(of(), before) == differences(before, missing) == ["config.class_weights.path differ"]


def test_a_run_goes_on_with_its_own_data_only(tmp_path):
    config, classes = ConfigDict({"data": {"name": "synthetic"}}), experiment.Classes(3, ())
    claim = lambda examples: experiment.claim_workdir(tmp_path, config, classes, figures={"train examples": examples})
    claim(54)
    claim(60)  # nothing has been trained yet
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    claim(60)
    with pytest.raises(DataError, match="train examples: 54, 60 there"):
        claim(54)


def test_figures_are_compared_where_both_have_them(tmp_path):
    data_digest.check_unchanged(tmp_path, {"train examples": 60})  # of a run that kept none
    (tmp_path / "data.json").write_text('{"train examples": 60, "train labels": "ab", "of a later version": 1}')
    data_digest.check_unchanged(tmp_path, {"train examples": 60, "train labels": "ab"})
    with pytest.raises(DataError, match=r"not what .* was trained on: train examples: 54, 60 there; train labels d"):
        data_digest.check_unchanged(tmp_path, {"train examples": 54, "train labels": "cd"})
