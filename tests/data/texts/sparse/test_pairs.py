"""Lines of `feature:value`: what is read, a line number for each mistake, and no crash whatever is in a file."""

import contextlib
import random

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.sparse.pairs import read_repository, read_svmlight
from mhe_jax.evaluation.baselines.trees import write_repository_file
from tests.data.texts.sparse import layouts


def written(tmp_path, text):
    path = tmp_path / "train.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_labels_and_features_of_each_row(tmp_path):
    path = written(tmp_path, "4 5 3\n2,0 0:1 4:-.5\n 1:2e-1\n1\n\n")
    found = read_repository(path, with_labels=True)
    np.testing.assert_allclose(
        found.features.toarray(), [[1, 0, 0, 0, -0.5], [0, 0.2, 0, 0, 0], [0] * 5, [0] * 5], rtol=1e-6
    )
    assert found.labels.toarray().tolist() == [[1, 0, 1], [0] * 3, [0, 1, 0], [0] * 3]


def test_features_may_be_in_any_order_and_labels_twice(tmp_path):
    found = read_repository(written(tmp_path, "1 5 3\n1,1 4:1 0:2\n"), with_labels=True)
    assert found.features.indices.tolist() == [0, 4]
    assert found.features.data.tolist() == [2, 1]
    assert found.labels.toarray().tolist() == [[0, 1, 0]]


def test_many_lines_are_read_in_blocks(tmp_path):
    lines = [f"{row % 7} {row % 11}:{row % 5 + 1}" for row in range(9000)]
    found = read_repository(written(tmp_path, "\n".join(["9000 11 7", *lines, ""])), with_labels=True)
    rows = np.arange(9000)
    np.testing.assert_array_equal(found.features[rows, rows % 11].A1, rows % 5 + 1)
    np.testing.assert_array_equal(found.labels.indices, rows % 7)


def test_windows_ends_and_a_byte_order_mark(tmp_path):
    found = read_repository(written(tmp_path, b"\xef\xbb\xbf1 2 2\r\n1 0:1\r\n"), with_labels=True)
    assert found.features.toarray().tolist() == [[1, 0]]


def test_remarks_of_svmlight_are_passed_over(tmp_path):
    found = read_svmlight(written(tmp_path, "# written by another\n#\n1 0:1 # one\n\n0,2 2:3\n 1:1\n\n"))
    assert found.features.toarray().tolist() == [[1, 0, 0], [0, 0, 3], [0, 1, 0]]
    assert found.labels.toarray().tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("row", ["1 2:x", "a 2:1", "1 2147483647:1"])
def test_remarks_of_svmlight_count_as_lines(row, tmp_path):
    with pytest.raises(DataError, match=r"train\.txt:4: "):
        read_svmlight(written(tmp_path, f"# written by another\n1 0:1\n\n{row}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"train\.txt:1: the header must be 'rows features labels'"),
        ("3 4\n", r"train\.txt:1: the header must be 'rows features labels'"),
        ("0 4 4\n", r"train\.txt:1: the header says 0 rows"),
        ("1 99999999999 4\n", r"train\.txt:1: the header must be"),
        ("1 5 3\n0 1:1\n0 1:1\n", r"train\.txt:3: the header says 1 rows, but here is one more"),
        ("2 5 3\n0 1:1\n", r"train\.txt:1: the header says 2 rows, but there are 1"),
        ("2 5 3\n0 1:1\n0 5:1\n", r"train\.txt:3: feature 5, but the header says 5 features"),
        ("2 5 3\n0 1:1\n3 4:1\n", r"train\.txt:3: label 3, but the header says 3 labels"),
        ("1 5 3\n0 1:1 1:2\n", r"row 0 has feature 1 twice"),
        ("1 5 3\na 1:1\n", r"train\.txt:2: a row begins with its labels"),
        ("1 5 3\n0, 1:1\n", r"train\.txt:2: a row begins with its labels"),
        ("1 5 3\n0 1:nan\n", r"train\.txt:2: '1:nan' must be 'feature:value'"),
        ("1 5 3\n0 1:1e99\n", r"train\.txt:2: '1:1e99' is beyond"),
        ("1 5 3\n0 1:\n", r"train\.txt:2: '1:' must be"),
        ("1 5 3\n0 -1:1\n", r"train\.txt:2: '-1:1' must be"),
        ("1 5 3\n0 1:1:1\n", r"train\.txt:2: '1:1:1' must be"),
        ("1 5 3\n0 99999999999:1\n", r"train\.txt:2: '99999999999:1' is beyond"),
        ("1 5 3\n99999999999 1:1\n", r"train\.txt:2: a label is more than"),
        ("1 2147483647 3\n0 1:1\n", r"announces 2147483647 features"),
        (b"1 5 3\n0 1:1\xff\n", r"train\.txt:2: byte 6 of the line is not UTF-8"),
    ],
)
def test_a_mistake_is_named_with_its_line(text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_repository(written(tmp_path, text), with_labels=True)


def test_what_a_baseline_writes_for_others_is_read_again(tmp_path):
    """The writer of the Extreme Classification Repository's file, empty rows included."""
    for split, (features, labels) in layouts.made().items():
        write_repository_file(tmp_path / "train.txt", features, labels)
        found = read_repository(tmp_path / "train.txt", with_labels=True)
        np.testing.assert_array_equal(found.features.toarray(), features.toarray(), err_msg=split)
        np.testing.assert_array_equal(found.labels.toarray(), labels.toarray(), err_msg=split)


@pytest.mark.parametrize("seed", range(300))
def test_damaged_files_are_an_error_or_are_read(seed, tmp_path):
    rng = random.Random(seed)
    lines = ["3 6 4", "1,2 0:1 5:.5", "0 2:1", " 3:1 4:2"]
    data = bytearray("\n".join([*lines, ""]).encode())
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data))
        data[place : place + rng.randint(0, 3)] = rng.choice([b"", b" ", b":", b",", b"\n", b"9", b"e", b"\x00", b"\t"])
    path = written(tmp_path, bytes(data))
    for read in (lambda: read_repository(path, with_labels=True), lambda: read_svmlight(path)):
        with contextlib.suppress(DataError):
            found = read()
            assert found.features.shape[0] == found.labels.shape[0]
            assert np.isfinite(found.features.data).all()
