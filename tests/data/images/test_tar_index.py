"""What tar shards must hold, and what is told where they do not."""

import os
import tarfile

import numpy as np
import pytest

from mhe_jax.data.dataset import BadExample, DataError
from tests.data.images.written import (
    add,
    opened,
    rows,
    write_tar,
)


def cut(path, size):
    with open(path, "r+b") as file:
        file.truncate(size)


def test_damaged_shards_are_told_with_their_member(folder, tmp_path):
    root = tmp_path / "other"
    some = list(rows(folder / "train"))[:2]
    shard = write_tar(root / "train.tar", some)
    with tarfile.open(shard) as tar:
        members = {member.name: member for member in tar}
    whole = shard.read_bytes()
    load = opened(root, valid_share=0.3).load
    for size, message in (
        (members["ant/1.png"].offset_data + 100, r"train.tar is cut: it ends within member ant/1.png"),
        (members["ant/1.png"].offset + 100, r"train.tar is cut: it ends after member ant/0.txt, without the blocks"),
        (members["ant/1.png"].offset, r"train.tar is cut: it ends after member ant/0.txt, without the blocks of zeros"),
        (100, r"train.tar is no tar file, or a compressed one, which has no offsets: "),
        (0, r"train.tar is no tar file, or a compressed one, which has no offsets: empty file"),
    ):
        shard.write_bytes(whole[:size])
        with pytest.raises(DataError, match=message):
            load()
    begins = members["ant/1.png"].offset
    shard.write_bytes(whole[:begins] + b"x" * 512 + whole[begins + 512 :])
    with pytest.raises(
        DataError, match=rf"train.tar is damaged: no member begins at byte {begins}, after member ant/0"
    ):
        load()
    with tarfile.open(shard, "w:gz") as tar:
        add(tar, "0.png", b"")
    with pytest.raises(DataError, match=r"train.tar is no tar file, or a compressed one, which has no offsets"):
        load()
    with tarfile.open(shard, "w"):
        pass
    with pytest.raises(DataError, match=r"train.tar holds no picture \(.jpg, "):
        load()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": b"", "b.png": b"", "b.cls": b"0"}, r"train.tar: key 'a' has no label: there is no .cls, nor .json"),
        ({"a.png": b"", "a.cls": b"0", "b.cls": b"0"}, r"train.tar: key 'b' has a label, but no picture"),
        ({"a.png": b"", "a.jpg": b"", "a.cls": b"0"}, r"train.tar: two pictures have the key 'a': .png and .jpg"),
        ({"a.png": b"", "a.cls": b""}, r"train.tar: member a.cls is empty"),
        ({"a.png": b"", "a.cls": b"\xff"}, r"train.tar: member a.cls is no UTF-8"),
        ({"a.png": b"", "a.json": b"{"}, r"train.tar: member a.json is no JSON"),
        ({"a.png": b"", "a.json": b"[1]"}, r"train.tar: member a.json must hold a JSON object, not list"),
        (
            {"a.png": b"", "a.json": b'{"label": true}'},
            r"member a.json: 'label' is True; a label must be an integer or",
        ),
        (
            {"a.png": b"", "a.json": b'{"caption": "x"}'},
            r"key 'a' has no label: there is no .cls, nor .json with label",
        ),
        (
            {"a.png": b"", "a.json": b'{"label": 1}', "b.png": b"", "b.json": b'{"label": "x"}'},
            r"train.tar: some labels are integers and others strings: they must be of one kind",
        ),
    ],
)
def test_what_a_shard_must_hold_is_told(members, message, tmp_path, cache):
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for name, content in members.items():
            add(tar, name, content)
    with pytest.raises(DataError, match=message):
        opened(tmp_path, valid_share=0.3).load()


def test_a_link_is_no_picture_and_what_systems_leave_is_passed_over(folder, tmp_path):
    some = list(rows(folder / "train"))
    shard = write_tar(tmp_path / "train.tar", some)
    with tarfile.open(shard, "a") as tar:
        add(tar, "ant/._0.png", b"of macOS")
    assert len(opened(shard, valid_share=0.3).sources()[0]) < 9
    with tarfile.open(shard, "a") as tar:
        link = tarfile.TarInfo("ant/9.png")
        link.type, link.linkname = tarfile.SYMTYPE, "0.png"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"train.tar: member ant/9.png is a link, not a picture"):
        opened(shard, valid_share=0.3).load()


def test_shards_with_one_key_and_with_labels_of_other_kinds(folder, tmp_path):
    some = list(rows(folder / "train"))
    write_tar(tmp_path / "train-0.tar", some[:5])
    write_tar(tmp_path / "train-1.tar", some[4:])
    with pytest.raises(DataError, match=r"the key 'bee/0' is in .*train-0.tar and in .*train-1.tar"):
        opened(tmp_path, valid_share=0.3).load()
    write_tar(tmp_path / "train-1.tar", some[5:], label="json")
    with pytest.raises(
        DataError, match=r"of one kind: those of .*train-0.tar are text, but those of .*-1.tar are strings"
    ):
        opened(tmp_path, valid_share=0.3).load()


def test_an_index_is_kept_for_as_long_as_its_shard_is_the_same(folder, tmp_path, cache, monkeypatch):
    some = list(rows(folder / "train"))
    shard = write_tar(tmp_path / "train.tar", some)
    first = opened(shard, valid_share=0.3).sources()[0]
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)
        np.testing.assert_array_equal(opened(shard, valid_share=0.3).sources()[0].offsets, first.offsets)
    kept.write_bytes(kept.read_bytes()[:100])  # as of a process that was killed
    np.testing.assert_array_equal(opened(shard, valid_share=0.3).sources()[0].offsets, first.offsets)
    # Another shard of the same size.
    status = shard.stat()
    write_tar(shard, some[::-1])
    assert shard.stat().st_size == status.st_size
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    again = opened(shard, valid_share=0.3).sources()[0]
    assert len(list(cache.iterdir())) == 2
    assert [again.read(index)[0] for index in range(len(again))] != [first.read(index)[0] for index in range(0)]
    assert again.keys.tolist() == first.keys.tolist()[::-1]
    # What was opened before the shard changed does not take other bytes for its pictures.
    cut(shard, shard.stat().st_size // 2)
    with pytest.raises(BadExample, match=r"train.tar: member .* is no longer at byte \d+: the shard was changed"):
        [first.read(index) for index in range(len(first))]


def test_a_cache_that_cannot_be_written_is_no_error(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    shard = write_tar(tmp_path / "train.tar", rows(folder / "train"))
    assert len(opened(shard, valid_share=0.3).sources()[0]) > 3
