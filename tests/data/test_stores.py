"""Paths of files on disks and in stores: patterns, listings, and reading by ranges."""

import pickle

import fsspec
import pytest

from mhe_jax.data import stores
from mhe_jax.data.dataset import DataError


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{train,val}-{0..1}", ["train-0", "val-0", "train-1", "val-1"]),
        ("{train-{0..1},val}", ["train-0", "val", "train-1", "val"]),
    ],
)
def test_braces_stand_for_alternatives(pattern, expected):
    assert sorted(stores.alternatives(pattern)) == sorted(expected)


def test_patterns_find_files_once_and_name_what_is_missing(tmp_path):
    for name in ("train-0.tar", "train-1.tar", "val.tar"):
        (tmp_path / name).touch()
    found = stores.matching(f"{tmp_path}/{{train-*,val,train-{{0..1}}}}.tar")
    assert sorted(found) == [f"{tmp_path}/{name}" for name in ("train-0.tar", "train-1.tar", "val.tar")]
    with pytest.raises(DataError, match=r"config.data.path: there is no file .*/train-2.tar"):
        stores.matching(f"{tmp_path}/train-{{0..2}}.tar")
    (tmp_path / "a{b}.tar").touch()
    assert not stores.is_pattern(str(tmp_path / "a{b}.tar"))


def test_a_store_that_ignores_ranges_is_told(monkeypatch):
    store = fsspec.filesystem("memory")
    store.pipe("/whole.bin", b"0123456789")
    monkeypatch.setattr(type(store), "cat_file", lambda *_, **__: b"0123456789")
    with pytest.raises(OSError, match=r"the store answers with 10 bytes where 4 were asked for"):
        stores.RangedFile("memory://whole.bin").read(3, 4)
    store.rm("/whole.bin")


@pytest.mark.parametrize("protocol", ["", "file://", "memory://"])
def test_files_are_read_by_ranges(protocol, tmp_path):
    folder = f"{protocol}{tmp_path}"
    store = fsspec.filesystem("memory" if protocol == "memory://" else "file")
    store.makedirs(f"{tmp_path}/below", exist_ok=True)
    store.pipe(f"{tmp_path}/a.bin", b"0123456789")
    file = pickle.loads(pickle.dumps(stores.RangedFile(stores.joined(folder, "a.bin"))))
    assert (file.size, file.version()[0]) == (10, 10)
    assert file.read(3, 4) == b"3456"
    assert file.read(8, 4) == b"89"
    with file.open() as opened:
        assert opened.read(2) == b"01"
    assert stores.entries(folder) == {"a.bin": False, "below": True}
    assert stores.entries(stores.joined(folder, "nothing")) == {}
    with pytest.raises(DataError, match=r"nothing cannot be read"):
        stores.RangedFile(stores.joined(folder, "nothing")).size  # noqa: B018
