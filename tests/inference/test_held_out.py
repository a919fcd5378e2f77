"""Which splits decisions may be made with."""

import pytest

from mhe_jax.data.dataset import ArraySplit
from mhe_jax.data.images.cifar import Cifar100
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.images.folder import ImageFolder
from mhe_jax.inference.held_out import held_out_split

TRAIN, EVAL, TEST = (ArraySplit(None, labels) for labels in ([0], [1], [2]))


def folder(path, name, **fields):
    (path / name).mkdir(exist_ok=True)
    return ImageFolder(path=str(path), **fields)


def test_validation_pictures_and_a_share_of_the_training_pictures_are(tmp_path):
    assert held_out_split(folder(tmp_path, "val"), Images(TRAIN, EVAL, ()), "run") is EVAL
    assert held_out_split(folder(tmp_path, "test", valid_share=0.1), Images(TRAIN, EVAL, ()), "run") is EVAL


def test_where_others_test_the_first_are(tmp_path):
    assert held_out_split(Cifar100(path=str(tmp_path)), Images(TRAIN, EVAL, (), TEST), "run") is EVAL


def test_test_pictures_are_not(tmp_path):
    with pytest.raises(ValueError, match=r"^run has no held-out examples .*train with config.data.valid_share=0.1"):
        held_out_split(folder(tmp_path, "test"), Images(TRAIN, EVAL, ()), "run")
    with pytest.raises(ValueError, match=r"only those that test it: give the data a validation"):
        held_out_split(Cifar100(path=str(tmp_path)), Images(TRAIN, EVAL, ()), "run")


@pytest.mark.parametrize(("name", "is_held_out"), [("validation", True), ("test", False)])
def test_files_of_a_split_are_told_by_their_names(tmp_path, name, is_held_out):
    for split in ("train", name):
        (tmp_path / f"{split}-000.tar").touch()
    data, splits = ImageFolder(path=str(tmp_path)), Images(TRAIN, EVAL, ())
    if is_held_out:
        assert held_out_split(data, splits, "run") is EVAL
    else:
        with pytest.raises(ValueError, match="run has no held-out examples"):
            held_out_split(data, splits, "run")
