import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.inference.class_names import with_names
from mhe_jax.train.experiment import Classes

CLASSES = Classes(3, ("n02", "n05", "n07"))


def named(tmp_path, text, classes=CLASSES):
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    return with_names(classes, tmp_path / "names.txt")


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_lines_with_the_datas_own_names_come_in_any_order(tmp_path, separator):
    lines = [("n07", "bée"), ("n09", "more than there are"), ("n02", "tench, Tinca tinca"), ("n05", "cat")]
    text = "".join(f"{name}{separator}{readable}\n" for name, readable in lines)
    assert named(tmp_path, text) == Classes(3, ("tench, Tinca tinca", "cat", "bée"))


def test_a_line_a_class_is_in_their_order(tmp_path):
    assert named(tmp_path, "big tench\ncat\nbée\n\n").names == ("big tench", "cat", "bée")
    assert named(tmp_path, "a\nb\nc", Classes(3, ())).name(2) == "c"


def test_other_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"names\.txt lacks a line for 'n05', the first of 2, and has 1 lines for 3 cl"):
        named(tmp_path, "n02 tench\n")
    with pytest.raises(DataError, match=r"names\.txt has 2 lines for 3 classes"):
        named(tmp_path, "a\nb\n", Classes(3, ()))
    assert with_names(CLASSES, None) is CLASSES
