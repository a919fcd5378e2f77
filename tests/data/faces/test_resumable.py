"""A conversion that was interrupted goes on where it stopped."""

import json
import pathlib

import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces import picture_writers, resumable
from mhe_jax.data.faces.convert import convert
from mhe_jax.data.faces.resumable import write_pictures
from tests.data.faces.people import Stop, encoded, stop_after, tree, write_people


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people")


@pytest.mark.parametrize("kind", ["records", "folders"])
def test_an_interrupted_conversion_goes_on_to_the_same_bytes(people, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(resumable, "_BLOCK", 3)
    if kind == "records":
        (people / "ann" / "1.jpeg").write_bytes(b"broken")
        source, total = people, 9 + 1 + 4  # pictures, header and people
        write = {"target": picture_writers, "name": "write_record"}
    else:
        source, total = tmp_path / "source", 10
        convert(people, source)
        write = {"target": pathlib.Path, "name": "write_bytes"}
    whole = convert(source, tmp_path / "whole", on_bad_example="skip")
    for count in range(total):
        dest = tmp_path / f"dest{count}"
        with monkeypatch.context() as patch:
            stop_after(patch, count, **write)
            with pytest.raises(Stop):
                convert(source, dest, on_bad_example="skip")
        assert not dest.exists()
        outcome = convert(source, dest, on_bad_example="skip")
        assert (outcome.examples, outcome.what, len(outcome.bad)) == (whole.examples, whole.what, len(whole.bad))
        assert tree(dest) == tree(tmp_path / "whole")
        assert not (tmp_path / f"dest{count}.partial").exists()


def test_a_resumed_conversion_does_not_write_again_what_is_done(people, tmp_path, monkeypatch):
    monkeypatch.setattr(resumable, "_BLOCK", 3)
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        with pytest.raises(Stop):
            convert(people, tmp_path / "dest")
    progress = json.loads((tmp_path / "dest.partial" / "progress.json").read_text())
    assert progress["next"] == 6
    with monkeypatch.context() as patch:
        stop_after(patch, 9)  # 4 pictures, the header and 4 people
        convert(people, tmp_path / "dest")
    assert (tmp_path / "dest" / "train.rec").is_file()


def test_a_resumed_conversion_may_write_less_than_the_interrupted_one(people, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(Stop):
            convert(people, tmp_path / "dest")
    for path in (people / "ann").iterdir():
        path.write_bytes(b"broken")
    for dest in ("dest", "whole"):
        convert(people, tmp_path / dest, on_bad_example="skip")
    assert tree(tmp_path / "dest") == tree(tmp_path / "whole")


def test_partial_folders_of_something_else_are_refused(people, tmp_path, monkeypatch):
    partial = tmp_path / "dest.partial"
    partial.mkdir()
    (partial / "mine.txt").write_text("x")
    with pytest.raises(DataError, match=rf"{partial} holds something else than an unfinished conversion: remove it"):
        convert(people, tmp_path / "dest")
    (partial / "mine.txt").unlink()
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stop):
            convert(people, tmp_path / "dest")
    (people / "dan").mkdir()
    (people / "dan" / "0.jpg").write_bytes(encoded(99))
    with pytest.raises(DataError, match=rf"{partial} holds an unfinished conversion of something else: remove it"):
        convert(people, tmp_path / "dest")
    (people / "dan" / "0.jpg").unlink()
    (people / "dan").rmdir()
    (partial / "train.rec").write_bytes(b"")
    (partial / "progress.json").write_text(
        (partial / "progress.json").read_text().replace('"writer": {}', '"writer": {"train.rec": 8}')
    )
    with pytest.raises(DataError, match=r"train\.rec is shorter than when its conversion stopped: remove"):
        convert(people, tmp_path / "dest")


def test_two_processes_do_not_write_the_same_folder(people, tmp_path):
    with resumable.partial_folder(tmp_path / "dest") as partial:
        with pytest.raises(DataError, match=rf"{partial} is being written by another process"):
            convert(people, tmp_path / "dest")
        (partial / "progress.json").write_text("{}")
    assert tree(tmp_path / "dest") == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"fingerprint": "f", "next": "1"}', b"[" * 10**5],
    ids=["empty", "open", "list", "latin", "text", "deep"],
)
def test_progress_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "progress.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path} is damaged, .*: remove {tmp_path} to begin again$"):
        write_pictures(None, None, None, tmp_path, "f", "raise")
