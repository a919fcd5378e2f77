import gzip
import os
import sys

import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.images.synthetic import Synthetic
from mhe_jax.inference.inputs import Unreadable, pictures, texts


class Words:
    """Stands for the data of a run: a token a word."""

    def inputs_of(self, some):
        length = np.array([len(text.split()) for text in some])
        return {"input_ids": np.zeros((len(some), 1), np.int32), "length": length}


def raised(error):
    raise error


def names(source, on_bad=raised):
    return [name for some, _ in texts(str(source), Words(), 2, on_bad) for name in some]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".txt", ".tsv"])
@pytest.mark.parametrize("packed", [False, True])
def test_files_are_read_by_their_names_packed_or_not(tmp_path, suffix, packed):
    data = b'{"text": "a b"}\n{"text": "c"}\n'
    path = tmp_path / ("texts" + suffix + ".gz" * packed)
    path.write_bytes(gzip.compress(data) if packed else data)
    expected = ["a b", "c"] if suffix.startswith(".json") else data.decode().splitlines()
    assert names(path) == expected


@pytest.mark.parametrize(
    "source", ["no.txt", "no.jsonl", "no.json", "no.csv", "no.tsv", "no.txt.gz", "./no", "/nowhere/no"]
)
def test_what_is_meant_as_a_file_has_to_be_there(source):
    with pytest.raises(ValueError, match=f"--input: there is no file {source}"):
        names(source)


def test_a_folder_is_no_text(tmp_path, monkeypatch):
    (tmp_path / "documents").mkdir()
    monkeypatch.chdir(tmp_path)
    for source in ("documents", tmp_path / "documents", "."):
        with pytest.raises(ValueError, match=f"--input: {source} is a folder; name a file of texts"):
            names(source)


@pytest.mark.parametrize("source", ["fox", "see a.txt", "x" * 5000, "", "either/or", "3.5"])
def test_anything_else_is_the_text_itself(source):
    assert names(source) == [source]


def test_a_bad_line_leaves_the_others_their_answers(tmp_path):
    lines = [
        b'{"text": "a"}',
        b"{",
        b'{"title": "b"}',
        b'{"text": 3}',
        b"\xff",
        b'{"text": "\\ud800"}',
        b'{"text": "c"}',
    ]
    (tmp_path / "texts.jsonl").write_bytes(b"\n".join(lines))
    errors = []
    assert names(tmp_path / "texts.jsonl", errors.append) == ["a", "c"]
    places = [str(error).removeprefix(f"{tmp_path}/texts.jsonl:")[:2] for error in errors]
    assert places == ["2:", "3:", "4:", "5:", "6:"]


@pytest.fixture
def pipe(monkeypatch):
    """What is written to this file comes in on standard input."""
    reads, writes = os.pipe()
    with open(reads) as file, open(writes, "wb", buffering=0) as written:
        monkeypatch.setattr(sys, "stdin", file)
        yield written


def test_bad_bytes_on_a_pipe_are_one_line_of_it(pipe):
    pipe.write(b"one\n\xff\nthree\n")
    pipe.close()
    errors = []
    assert names("-", errors.append) == ["one", "three"]
    assert list(map(str, errors)) == ["standard input:2: byte 1 of the line is not UTF-8 (invalid start byte)"]


def test_nothing_on_a_pipe_is_an_error(pipe):
    pipe.close()
    with pytest.raises(ValueError, match="--input: - holds no text"):
        names("-")


def test_a_pipe_is_read_up_to_what_is_there(pipe):
    """Never more than a batch together; the last line may lack its end, and another one come in pieces."""
    batches = texts("-", Words(), 2, raised)
    pipe.write(b"one\r\ntwo\nthree\nfo")
    assert next(batches)[0] == ["one", "two"]
    assert next(batches)[0] == ["three"]
    pipe.write(b"u")
    pipe.write(b"r\n\nfive" + b"!" * 50_000)
    assert next(batches)[0] == ["four", ""]
    pipe.close()
    assert [name for some, _ in batches for name in some] == ["five" + "!" * 50_000]


def test_what_stands_before_a_damaged_end_is_answered(tmp_path):
    packed = gzip.compress("".join(f"{i} of the texts\n" for i in range(9000)).encode())
    (tmp_path / "texts.gz").write_bytes(packed[:-2000])
    errors = []
    read = names(tmp_path / "texts.gz", errors.append)
    assert len(read) > 100
    assert read == [f"{i} of the texts" for i in range(len(read))]
    (error,) = errors
    assert f"texts.gz cannot be read after line {len(read)}" in str(error)
    (tmp_path / "texts.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="texts.gz cannot be read: Not a gzipped file"):
        names(tmp_path / "texts.gz")


def test_a_text_that_is_not_utf8_is_one_line():
    with pytest.raises(ValueError, match="--input:1: byte 3 of the line is not UTF-8"):
        names("a \udcff")


def archive(path):
    with path.open("wb") as file:
        np.savez(file, images=np.zeros((1, 8, 8, 1), np.uint8))


ARRAYS = {
    "no dimensions": (np.array(7, np.uint8), r"holds uint8 \[\]; uint8 \[N, 8, 8, 1\] is needed"),
    "no dimensions, of objects": (np.array(None, object), "is not a readable .npy file: .*"),
    "one dimension": (np.zeros(64, np.uint8), r"holds uint8 \[64\]; uint8 \[N, 8, 8, 1\] is needed"),
    "a single picture": (np.zeros((8, 8, 1), np.uint8), r"holds uint8 \[8, 8, 1\]; uint8 \[N, 8, 8, 1\] is needed"),
    "no pictures": (np.zeros((0, 8, 8, 1), np.uint8), r"(holds uint8 \[0, 8, 8, 1\]; .*|is not a readable .*)"),
    "other channels": (np.zeros((2, 8, 8, 3), np.uint8), r"holds uint8 \[2, 8, 8, 3\]; .*"),
    "other numbers": (np.zeros((2, 8, 8, 1), np.float32), r"holds float32 \[2, 8, 8, 1\]; .*"),
    "records": (np.zeros((2, 8, 8, 1), [("r", np.uint8)]), r"holds \[\('r', 'u1'\)\] \[2, 8, 8, 1\]; .*"),
    "objects": (np.full((2, 8, 8, 1), None), "is not a readable .npy file: .*"),
    "an archive": (archive, r"is not a readable .npy file: it begins with b'PK.*"),
    "half an archive": (lambda path: path.write_bytes(b"PK\x03\x04" + b"0" * 99), "is not a readable .npy file: .*"),
    "empty": (lambda path: path.write_bytes(b""), "is not a readable .npy file: .*"),
    "only a header": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "is not a readable .npy file: .*"),
    "no array": (lambda path: path.write_bytes(b"no array"), "is not a readable .npy file: .*"),
    "a folder": (lambda path: path.mkdir(), "cannot be read: it is a folder, a pipe or a device, not a file"),
    "a pipe": (os.mkfifo, "cannot be read: it is a folder, a pipe or a device, not a file"),
    "nothing": (lambda path: None, "cannot be read: No such file or directory"),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_an_array_that_is_no_pictures_is_one_line_with_its_file(tmp_path, what):
    written, message = ARRAYS[what]
    path = tmp_path / "pictures.npy"
    written(path) if callable(written) else np.save(path, written, allow_pickle=True)
    data = Synthetic(image_shape=(8, 8, 1), num_classes=2)
    with pytest.raises(ValueError, match=rf"^{path}:? {message}$"):
        list(pictures(str(path), data, 2, raised))


def test_pictures_of_an_array(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    data = Synthetic(image_shape=(8, 8, 1), num_classes=2)
    found = list(pictures(str(tmp_path / "a.npy"), data, 2, raised))
    np.testing.assert_array_equal(np.concatenate([part for _, part in found]), images)
    assert [name for some, _ in found for name in some] == [f"{tmp_path}/a.npy[{i}]" for i in range(5)]


def test_pipes_and_devices_are_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match=f"^--input: {source} is a pipe or a device; name a file of texts, or - "):
            names(source)
        with pytest.raises(ValueError, match=f"^--input: there is no picture at {source}: it is a pipe or a device"):
            list(pictures(str(source), Synthetic(image_shape=(8, 8, 1), num_classes=2), 2, raised))


def test_a_bad_picture_leaves_the_others_their_answers(tmp_path, capsys):
    data, unreadable = Synthetic(image_shape=(8, 8, 1), num_classes=2), Unreadable()
    for name in ("a", "c", "e"):
        PIL.Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    for name in ("b", "d"):
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    batches = [(list(some), images.shape) for some, images in pictures(str(tmp_path), data, 2, unreadable)]
    expected = [([str(tmp_path / f"{name}.png")], (1, *data.image_shape)) for name in ("a", "c", "e")]
    assert batches == expected
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in errors] == [["left out", str(tmp_path / f"{name}.png")] for name in "bd"]
    with pytest.raises(ValueError, match="2 of 5 inputs cannot be read; each is named above"):
        unreadable.check(3)
