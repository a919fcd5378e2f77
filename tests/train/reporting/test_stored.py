"""Files of a run that were damaged: one line with the file and the place, whatever the bytes."""

import json
import pathlib
import random

import pytest

from mhe_jax.train import experiment
from mhe_jax.train.experiment import Classes
from mhe_jax.train.reporting import stored, writers
from mhe_jax.train.skips import Skips

BYTES = {
    "nothing": (b"", "line 1, column 1"),
    "zeros": (b"\0" * 100, "line 1, column 1"),
    "cut": (b'{"a": 1,\n "b', "line 2, column 2"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8: byte 8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8: byte 1"),
    "deep": (b"[" * 100_000, "nested too deeply"),
    "digits": (b'{"a": ' + b"9" * 10_000 + b"}", "is not JSON: Exceeds the limit"),
    "a list": (b"[1]", "holds a list; it must hold an object"),
    "null": (b"null", "holds null; it must hold an object"),
}


@pytest.mark.parametrize(("content", "message"), BYTES.values(), ids=BYTES)
def test_bytes_that_are_no_object_are_placed(tmp_path, content, message):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        stored.read_object(path)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("name", ["plain", "bée", "caf\udce9"])
def test_names_of_any_bytes_are_written_and_read(tmp_path, name):
    path = tmp_path / "file.json"
    path.write_text(stored.as_text({"names": [name]}), encoding="utf-8")
    assert stored.read_object(path) == {"names": [name]}
    assert ("bée" in path.read_text(encoding="utf-8")) == (name == "bée")


LINES = {
    "a number": b"5\n",
    "no step": b'{"split": "train"}\n',
    "a step of text": b'{"step": "1", "split": "train"}\n',
    "not UTF-8": b'\xfe{"step": 1}\n',
    "zeros": b"\0\0\0\n",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_that_is_no_event_is_placed(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    event = b'{"step": 1, "split": "train"}\n'
    path.write_bytes(event + line + event)
    with pytest.raises(ValueError, match=r"metrics.jsonl:2 "):
        writers.read_events(path)


@pytest.mark.parametrize("end", [b'{"step": 2, "sp', b"\0" * 64, b'{"step": 2, "x": "\xc3'])
def test_a_last_line_that_a_crash_cut_short_is_left_out(tmp_path, end):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "split": "train"}\n' + end)
    assert writers.read_events(tmp_path / "metrics.jsonl") == [{"step": 1, "split": "train"}]


CONFIG = {"data": {"name": "synthetic", "num_classes": 3}, "head": {"name": "ohe"}, "optimizer": {"name": "sgd"}}
WRONG = {
    "config.json": [
        {"data": 3},
        {"head": [1]},
        {"clip_norm": "much"},
        {"optimizer": None},
        {"a.b": 1},
        {"total_steps": None},
        {"total_epochs": "3"},
        {"init_parts": 1},
    ],
    "classes.json": [
        {},
        {"number": 3},
        {"number": "3", "names": []},
        {"number": 1, "names": ["a", "b"]},
        {"names": "abc"},
    ],
}


def workdir(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "classes.json").write_text(json.dumps({"number": 3, "names": ["a", "b", "c"]}))
    return tmp_path


@pytest.mark.parametrize(("name", "content"), [(name, content) for name, many in WRONG.items() for content in many])
def test_objects_that_are_not_what_a_run_keeps_are_named(tmp_path, name, content):
    assert experiment.read_workdir(workdir(tmp_path))[1] == Classes(3, ["a", "b", "c"])
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{tmp_path / name}"):
        experiment.read_workdir(tmp_path)


def test_any_damage_to_the_files_of_a_run_is_one_line(tmp_path):
    """Bytes flipped, cut and put in at random places: read, or refused with the file's name; never another error."""
    generator = random.Random(0)
    (workdir(tmp_path) / "skipped.json").write_text('[{"steps": [1, 2], "batches": [0, 2]}]')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 0.5}\n' * 3)
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    readers = {
        "config.json": experiment.read_workdir,
        "classes.json": experiment.read_workdir,
        "metrics.jsonl": lambda folder: writers.read_events(folder / "metrics.jsonl"),
        "skipped.json": Skips.read,
    }
    said = []
    for name, read in readers.items():
        whole = (tmp_path / name).read_bytes()
        for _ in range(60):
            (tmp_path / name).write_bytes(damaged(whole, generator))
            try:
                read(tmp_path)
            except ValueError as error:
                said.append((name, str(error)))
        (tmp_path / name).write_bytes(whole)
    assert len(said) > 100
    assert [(name, text) for name, text in said if name not in text or "\n" in text] == []


def damaged(content, generator):
    content = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(content) + 1)
        kind = generator.randrange(3)
        if kind == 0:
            del content[at:]
        elif kind == 1:
            content[at:at] = generator.choice([b"\xff", b"\0", b"[", b"{", b'"', b"1e999", b"null"])
        elif at < len(content):
            content[at] ^= 1 << generator.randrange(8)
    return bytes(content)


def test_a_file_that_is_a_folder_or_absent_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="holds no run of this program"):
        experiment.read_workdir(pathlib.Path(tmp_path))
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ValueError, match="holds no run of this program"):
        experiment.read_workdir(tmp_path)
