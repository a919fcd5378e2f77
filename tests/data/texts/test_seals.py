import concurrent.futures
import os
import pathlib

import pytest

from mhe_jax.data.texts import seals

NAMES = ("a.bin", "b.bin")
FACTS = {"cut": 3}
LONG_AGO = 10**18


@pytest.fixture
def folder(tmp_path):
    """Two files of an old time of change."""
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode() * 100)
        os.utime(tmp_path / name, ns=(LONG_AGO, LONG_AGO))
    return tmp_path


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are hashed."""
    names = []
    real = seals._digest
    monkeypatch.setattr(seals, "_digest", lambda path: names.append(path.name) or real(path))
    return names


def flip(path, bit=1):
    data = bytearray(path.read_bytes())
    data[50] ^= bit
    path.write_bytes(data)


def test_what_was_found_right_and_has_not_changed_is_not_hashed_again(folder, hashed):
    expected = seals.seal(folder, NAMES, FACTS)
    assert seals.is_sealed(folder, NAMES, FACTS, expected)
    hashed.clear()
    for _ in range(3):
        assert seals.is_sealed(folder, NAMES, FACTS, expected)
    assert hashed == []


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_a_program_changed_is_found(folder, name):
    expected = seals.seal(folder, NAMES, FACTS)
    assert seals.is_sealed(folder, NAMES, FACTS, expected)
    flip(folder / name)
    assert not seals.is_sealed(folder, NAMES, FACTS, expected)
    flip(folder / name)
    assert seals.is_sealed(folder, NAMES, FACTS, expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_size_is_found_whatever_its_time(folder, name):
    expected = seals.seal(folder, NAMES, FACTS)
    assert seals.is_sealed(folder, NAMES, FACTS, expected)
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    os.utime(folder / name, ns=(LONG_AGO, LONG_AGO))
    assert not seals.is_sealed(folder, NAMES, FACTS, expected)


def test_other_facts_are_found_though_no_file_is_hashed_for_them(folder):
    expected = seals.seal(folder, NAMES, FACTS)
    assert seals.is_sealed(folder, NAMES, FACTS, expected)
    assert not seals.is_sealed(folder, NAMES, {"cut": 4}, expected)
    assert not seals.is_sealed(folder, NAMES, FACTS, expected[::-1])


def test_a_file_of_this_moment_may_change_within_it(folder, hashed):
    """The time of change is then the same, as on disks whose clock ticks slowly."""
    (folder / "b.bin").touch()
    now = (folder / "b.bin").stat().st_mtime_ns
    expected = seals.seal(folder, NAMES, FACTS)
    assert seals.is_sealed(folder, NAMES, FACTS, expected)
    flip(folder / "b.bin")
    os.utime(folder / "b.bin", ns=(now, now))
    assert not seals.is_sealed(folder, NAMES, FACTS, expected)


@pytest.mark.parametrize("at", range(0, 400, 7))
def test_damage_of_what_is_kept_does_no_harm(folder, at):
    expected = seals.seal(folder, NAMES, FACTS)
    assert seals.is_sealed(folder, NAMES, FACTS, expected)
    (kept,) = set(folder.iterdir()) - {folder / name for name in NAMES}
    whole = kept.read_bytes()
    for data in (whole[:at], whole[:at] + b"7" + whole[at + 1 :], whole[:at] + b"]" + whole[at:], whole[at:]):
        kept.write_bytes(data)
        assert seals.is_sealed(folder, NAMES, FACTS, expected)


@pytest.mark.parametrize("text", ["", "[]", "7", '{"a.bin": 7}', '{"a.bin": [1], "b.bin": []}', "[" * 99999])
def test_anything_may_lie_where_hashes_are_kept(folder, text):
    expected = seals.seal(folder, NAMES, FACTS)
    (folder / "checked.json").write_text(text)
    assert seals.is_sealed(folder, NAMES, FACTS, expected)


def test_where_nothing_can_be_written_files_are_hashed_at_every_start(folder, hashed, monkeypatch):
    def refused(*_, **__):
        raise OSError(30, "Read-only file system")

    expected = seals.seal(folder, NAMES, FACTS)
    monkeypatch.setattr(pathlib.Path, "write_text", refused)
    for _ in range(2):
        hashed.clear()
        assert seals.is_sealed(folder, NAMES, FACTS, expected)
        assert hashed == list(NAMES)


def test_many_may_look_at_once(folder):
    expected = seals.seal(folder, NAMES, FACTS)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: seals.is_sealed(folder, NAMES, FACTS, expected), range(200)))
    assert all(found)


def test_a_missing_file_is_an_error(folder):
    expected = seals.seal(folder, NAMES, FACTS)
    assert seals.is_sealed(folder, NAMES, FACTS, expected)
    (folder / "a.bin").unlink()
    with pytest.raises(FileNotFoundError):
        seals.is_sealed(folder, NAMES, FACTS, expected)
