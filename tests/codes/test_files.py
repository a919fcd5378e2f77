"""Codes in files: what is written is read, and what is wrong with a file is told with its name."""

import re

import numpy as np
import pytest

from mhe_jax.codes.files import read_codes, write_codes
from mhe_jax.codes.sources import SOURCES
from mhe_jax.data.dataset import DataError
from mhe_jax.labels import LabelCodes, LabelSpace


def test_what_is_written_is_read(tmp_path):
    codes = LabelCodes.of(np.random.default_rng(0).permutation(13))
    write_codes(tmp_path / "codes.npy", codes)
    assert read_codes(tmp_path / "codes.npy", 13).digest == codes.digest
    assert [path.name for path in tmp_path.iterdir()] == ["codes.npy"]
    write_codes(tmp_path / "codes.npy", LabelCodes.identity(13))
    assert read_codes(tmp_path / "codes.npy", 13).is_identity


@pytest.mark.parametrize(
    ("names", "text"), [(("a", "b b", "c"), "c\na\nb b\n\n"), ((), "2\n0\n1\n"), (("a",), "2\na\n1")]
)
def test_a_text_names_a_class_a_line(tmp_path, names, text):
    (tmp_path / "order.txt").write_text(text)
    assert read_codes(tmp_path / "order.txt", 3, names).id_of_code.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([0, 1], "codes.npy holds codes of 2 classes, but there are 3"),
        ([0, 1, 1], "codes.npy: class 1 has 2 codes, and class 2 has none"),
        ([0, 1, 3], "codes.npy: code 2 is of class 3, but there are 3 classes"),
        ([0, 1, -1], "codes.npy: code 2 is of class -1"),
        ([0.0, 1.0, 2.0], "codes.npy must hold one whole number for each class, not float64 [3]"),
        ([[0, 1, 2]], "codes.npy must hold one whole number for each class, not int64 [1, 3]"),
    ],
)
def test_what_is_no_permutation_is_an_error(tmp_path, content, message):
    np.save(tmp_path / "codes.npy", np.array(content))
    with pytest.raises(DataError, match=re.escape(message)):
        read_codes(tmp_path / "codes.npy", 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("codes.npy", b"", "codes.npy is no array of numbers"),
        ("codes.npy", b"\x93NUMPY\x01", "codes.npy is no array of numbers"),
        ("order.txt", b"a\nB\nc\n", "order.txt:2: 'B' is no class of the data; 'b' there differs from 'B' in capitals"),
        ("order.txt", b"a\nb\n", "order.txt holds codes of 2 classes, but there are 3"),
        ("order.txt", b"a\nb\nb\n", "order.txt: class 1 has 2 codes, and class 2 has none"),
    ],
)
def test_a_damaged_file_is_an_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        read_codes(tmp_path / name, 3, ("a", "b", "c"))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.npy: cannot be read"):
        read_codes(tmp_path / "nowhere.npy", 3)


def test_an_archive_is_no_array(tmp_path):
    np.savez(tmp_path / "codes.npz", ids=np.arange(3))
    path = (tmp_path / "codes.npz").rename(tmp_path / "codes.npy")
    with pytest.raises(DataError, match=re.escape(f"{path} is no array of numbers, but an archive")):
        read_codes(path, 3)


@pytest.mark.parametrize("name", ["file", "taxonomy"])
def test_the_home_folder_is_known(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "codes.txt").write_text({"file": "1\n0\n", "taxonomy": "0\tb\n1\ta\n"}[name])
    source = SOURCES[name](path="~/codes.txt")
    assert sorted(source.codes(LabelSpace(2, (2, 1)), (), None, 0).classes_by_code.tolist()) == [0, 1]
