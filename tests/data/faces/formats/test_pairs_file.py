import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.formats.pairs_file import read_pairs, write_pairs


@pytest.fixture
def root(tmp_path):
    for name in ("ann/1.jpg", "ann/2.jpg", "bob/1.jpg", "with space/a b.jpg", "a,b/1.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    for name, count in (("Ann_Lee", 3), ("Bob", 2), ("7", 1)):
        (tmp_path / name).mkdir()
        for number in range(1, count + 1):
            (tmp_path / name / f"{name}_{number:04d}.jpg").write_bytes(b"")
    return tmp_path


def read(root, text):
    (root / "pairs.txt").write_text(text, encoding="utf-8")
    return read_pairs(root / "pairs.txt", root)


def named(root, pairs):
    """Pairs as their files' names and truths."""
    names = [path.removeprefix(f"{root}/") for path in pairs.paths]
    assert len(set(names)) == len(names)
    rows = zip(pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist(), strict=True)
    return [(names[first], names[second], same) for first, second, same in rows]


@pytest.mark.parametrize("separator", [" ", "  ", "\t", ",", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_lines_of_two_paths_and_a_truth(root, separator, end):
    lines = [("ann/1.jpg", "ann/2.jpg", "1"), ("bob/1.jpg", "ann/1.jpg", "0"), ("bob/1.jpg", "bob/1.jpg", "1")]
    pairs = read(root, "".join(separator.join(line) + end for line in lines))
    assert named(root, pairs) == [(first, second, same == "1") for first, second, same in lines]
    assert pairs.paths == tuple(f"{root}/{name}" for name in ("ann/1.jpg", "ann/2.jpg", "bob/1.jpg"))
    assert (pairs.first.dtype, pairs.second.dtype, pairs.same.dtype) == (np.int32, np.int32, bool)


def test_paths_with_spaces_and_commas(root):
    assert named(root, read(root, "with space/a b.jpg,ann/1.jpg,0")) == [("with space/a b.jpg", "ann/1.jpg", False)]
    assert named(root, read(root, "with space/a b.jpg\ta,b/1.jpg\t0")) == [("with space/a b.jpg", "a,b/1.jpg", False)]


def test_absolute_paths(root):
    pairs = read(root, f"{root}/ann/1.jpg bob/1.jpg 0")
    assert pairs.paths == (f"{root}/ann/1.jpg", f"{root}/bob/1.jpg")


@pytest.mark.parametrize("header", ["", "2\n", "1 2\n", "2\t1\n"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_the_classic_lists_of_labeled_faces_in_the_wild(root, header, separator):
    lines = ["Ann_Lee 1 3", "Bob 2 1", "Ann_Lee 2 Bob 2", "7 1 Bob 1"]
    pairs = read(root, header + "".join(line.replace(" ", separator) + "\n" for line in lines))
    assert named(root, pairs) == [
        ("Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0003.jpg", True),
        ("Bob/Bob_0002.jpg", "Bob/Bob_0001.jpg", True),
        ("Ann_Lee/Ann_Lee_0002.jpg", "Bob/Bob_0002.jpg", False),
        ("7/7_0001.jpg", "Bob/Bob_0001.jpg", False),
    ]


def test_a_first_line_of_two_people_is_no_path_list(root):
    assert named(root, read(root, "Ann_Lee 1 Bob 1\n")) == [("Ann_Lee/Ann_Lee_0001.jpg", "Bob/Bob_0001.jpg", False)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"pairs\.txt holds no pairs"),
        ("\n \n", r"pairs\.txt holds no pairs"),
        ("10 300\n", r"pairs\.txt holds no pairs"),
        ("ann/1.jpg ann/2.jpg 1\n\nann/1.jpg bob/1.jpg\n", r"pairs\.txt:3: 2 fields; a line must be `path path same`"),
        ("ann/1.jpg with space/a b.jpg 1\n", r"pairs\.txt:1: 5 fields; .*separate by tabs or commas"),
        ("ann/1.jpg,,1\n", r"pairs\.txt:1: 3 fields; a line must be"),
        ("ann/1.jpg ann/2.jpg True\n", r"pairs\.txt:1: the last field is 'True'; it must be 1 \(same\) or 0"),
        ("ann/1.jpg ann/2.jpg -1\n", r"pairs\.txt:1: the last field is '-1'"),
        ("ann/1.jpg ann/2.jpg 1\nbob/9.jpg bob/1.jpg 1\n", r"pairs\.txt:2: the picture bob/9\.jpg does not exist in /"),
        ("a.jpg b.jpg 1\na.jpg bob/1.jpg 0\n", r"pairs\.txt:1: .*a\.jpg .*\(2 of 3 pictures are missing\)"),
        ("ann bob 1\n", r"pairs\.txt:1: the picture ann does not exist"),  # a folder
        ("ann/1.jpg \x00 1\n", r"pairs\.txt:1: the picture \\x00 does not exist"),
        ("Bob 1 2\nBob 1\n", r"pairs\.txt:2: must be `name i j` or `name i name j`, as in LFW"),
        ("Bob 1 2\nBob 1 x\n", r"pairs\.txt:2: must be `name i j`"),
        ("Bob 1 2\nBob 1 Ann_Lee 1 2\n", r"pairs\.txt:2: must be `name i j`"),
        ("Bob 1 2\nBob -1 2\n", r"pairs\.txt:2: must be `name i j`"),
        ("Bob 1 2\nBob 1 3\n", r"pairs\.txt:2: the picture Bob/Bob_0003\.jpg does not exist"),
        ("2\nBob 1 2\nBob 1 Ann_Lee 2\n", r"line 1 announces 2 pairs of one person .* but there are 1 and 1"),
        ("3 1\nBob 1 2\nBob 1 Ann_Lee 2\n", r"line 1 announces 3 pairs"),
        ("1\nBob 1 2\nBob 1 1\n", r"line 1 announces 1 pairs .* but there are 2 and 0"),
    ],
)
def test_bad_lines_are_named(root, text, message):
    with pytest.raises(DataError, match=message):
        read(root, text)


def test_files_that_cannot_be_read(root):
    with pytest.raises(DataError, match=r"none\.txt does not exist"):
        read_pairs(root / "none.txt", root)
    (root / "pairs.txt").write_bytes(b"ann/1.jpg ann/2.jpg 1\n\xff\n")
    with pytest.raises(DataError, match=r"pairs\.txt:2: byte 1 of the line is not UTF-8"):
        read_pairs(root / "pairs.txt", root)


def test_written_lists_are_read_back(root):
    rows = [("ann/1.jpg", "bob/1.jpg", False), ("ann/2.jpg", "ann/1.jpg", True)]
    write_pairs(root / "pairs.txt", rows)
    assert (root / "pairs.txt").read_text() == "ann/1.jpg bob/1.jpg 0\nann/2.jpg ann/1.jpg 1\n"
    assert named(root, read_pairs(root / "pairs.txt", root)) == rows
