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


def test_the_datas_own_names_stay_as_they_are(tmp_path):
    assert named(tmp_path, "n02\nn05\nn07\n") == CLASSES


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        ("n02 tench\n", CLASSES, r"a line for 'n02', but lacks a readable name for 'n05' and 1 other classes"),
        # As many lines as classes are no reason to give one the name of another.
        ("n07 ship\nn02 cat\nn09 extra\n", CLASSES, r"a line for 'n02', but lacks a readable name for 'n05' and 0"),
        ("n05\nn02\nn07\n", CLASSES, r"a line for 'n02', but lacks a readable name for 'n02' and 2 other"),
        ("n02 a\nn05\nn07 b\n", CLASSES, r"a line for 'n02', but lacks a readable name for 'n05' and 0"),
        ("n02 a\nn05 b\nn07 c\nn02 d\n", CLASSES, r"names\.txt:4: 'n02' is 'd', and 'a' in an earlier line"),
        ("a\nb\n", CLASSES, r"names\.txt has 2 lines for 3 classes, and none that begins with a class of the data"),
        ("a\nb\n", Classes(3, ()), r"names\.txt has 2 lines for 3 classes"),
    ],
)
def test_other_files_are_named(tmp_path, text, classes, message):
    with pytest.raises(DataError, match=message):
        named(tmp_path, text, classes)


def test_without_a_file_nothing_changes():
    assert with_names(CLASSES, None) is CLASSES
