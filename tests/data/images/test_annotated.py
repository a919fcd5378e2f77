"""Tiny-ImageNet's own layout: the classes of val/ are in a file."""

import shutil

import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.feeds import eval_feed
from mhe_jax.data.images.folder import ImageFolder
from mhe_jax.train.data_digest import figures

CLASSES = ("n01", "n02", "n10")
# As the file has them: neither by class nor by name.
LINES = {"val_10.JPEG": "n10", "val_0.JPEG": "n02", "val_2.JPEG": "n01", "val_1.JPEG": "n02"}


def save(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (8, 8), (grey,) * 3).save(path)


@pytest.fixture
def root(tmp_path):
    for place, name in enumerate(CLASSES):
        for number in range(3):
            save(tmp_path / "train" / name / "images" / f"{name}_{number}.JPEG", 80 * place)
        (tmp_path / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t7\t7\n")
    for name, class_name in LINES.items():
        save(tmp_path / "val" / "images" / name, 80 * CLASSES.index(class_name))
    write_lines(tmp_path, *(f"{name}\t{class_name}\t0\t0\t7\t7" for name, class_name in LINES.items()))
    save(tmp_path / "test" / "images" / "test_0.JPEG", 1)
    (tmp_path / "words.txt").write_text("".join(f"{name}\tword of {name}\n" for name in CLASSES))
    return tmp_path


def write_lines(root, *lines):
    (root / "val" / "val_annotations.txt").write_text("".join(f"{line}\n" for line in lines))


def folder(root):
    return ImageFolder(path=str(root), image_size=7)


def found(root):
    _, evaluate, _ = folder(root).sources()
    return [evaluate.read(index)[1:] for index in range(len(evaluate))]


def test_the_file_says_which_class_a_picture_has(root):
    images = folder(root).load()
    assert images.class_names == CLASSES
    assert (images.train.num_examples, images.eval.num_examples) == (9, 4)
    inner = root / "val" / "images"
    assert found(root) == [
        (label, str(inner / name)) for label, name in ((0, "val_2.JPEG"), (1, "val_0.JPEG"), (1, "val_1.JPEG"))
    ] + [(2, str(inner / "val_10.JPEG"))]
    chunk = eval_feed(images.eval, 4).chunk(0, 1)
    assert chunk["label"].tolist() == [[0, 1, 1, 2]]
    np.testing.assert_array_equal(chunk["image"][0, :, 3, 3, 0].round(-1), [0, 80, 80, 160])
    assert "eval sources" in figures(images, 3)


def test_class_folders_win_once_the_pictures_are_moved_there(root):
    for name, class_name in LINES.items():
        target = root / "val" / class_name / name
        target.parent.mkdir(exist_ok=True)
        shutil.move(root / "val" / "images" / name, target)
    (root / "val" / "images").rmdir()
    assert [label for label, _ in found(root)] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["val_0.JPEG n02"], "1: a line must be a picture, a tab and its class, but is 'val_0.JPEG n02'$"),
        (["val_0.JPEG\tn02", "", "\tn02"], "3: a line must be a picture, a tab and its class"),
        (["val_0.JPEG\tn02", "val_2.JPEG\tn03\t0"], "2: the class 'n03' is none of training's$"),
        (["val_0.JPEG\tN02"], r"1: the class 'N02' is none of training's; .* capitals"),
        (["val_0.JPEG\tn02", "val_0.JPEG\tn02"], "2: the picture val_0.JPEG has a line already$"),
        (["val_0.JPEG\tn02", "val_7.JPEG\tn02"], "2: the picture val_7.JPEG is not in .*/val/images$"),
        (["no\tn02", "../val_annotations.txt\tn02"], r"1: the picture no is not in .*\(2 of 2 pictures are missing\)$"),
    ],
)
def test_what_is_wrong_with_a_line_is_told_with_its_number(root, lines, message):
    write_lines(root, *lines)
    with pytest.raises(DataError, match=f"^{root}/val/val_annotations.txt:{message}"):
        folder(root).sources()


def test_a_file_without_lines_is_an_error(root):
    write_lines(root)
    with pytest.raises(DataError, match="val_annotations.txt names no picture$"):
        folder(root).sources()


@pytest.mark.filterwarnings("ignore:.*classes have no pictures to evaluate:UserWarning")
def test_pictures_without_a_line_are_left_out_and_counted(root):
    write_lines(root, "val_2.JPEG\tn01")
    with pytest.warns(
        UserWarning, match=r"/val/images: 3 of 4 pictures have no line in val_annotations.txt and are left"
    ):
        assert found(root) == [(0, str(root / "val" / "images" / "val_2.JPEG"))]


def test_classes_without_pictures_are_told(root):
    (root / "val" / "images" / "val_10.JPEG").unlink()
    write_lines(root, *(f"{name}\t{class_name}" for name, class_name in list(LINES.items())[1:]))
    with pytest.warns(UserWarning, match=r"/val: 1 of 3 classes have no pictures to evaluate: 'n10'$"):
        folder(root).sources()
