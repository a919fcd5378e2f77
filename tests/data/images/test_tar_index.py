"""What tar shards must hold, and what is told where they do not."""

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.images import tar_source
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
        (
            {"a.png": b"", "a.cls": b"0" * 1025},
            r"train.tar: member a.cls has 1,025 bytes, more than the 1,024 of a label",
        ),
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
    with pytest.raises(DataError, match=r"train.tar: member ant/9.png is a link, not a file"):
        opened(shard, valid_share=0.3).load()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("extension", ["cls", "json"])
def test_a_link_is_no_label(kind, extension, folder, tmp_path):
    shard = write_tar(tmp_path / "train.tar", rows(folder / "train"), label=extension)
    with tarfile.open(shard, "a") as tar:
        add(tar, "ant/9.png", b"")
        link = tarfile.TarInfo(f"ant/9.{extension}")
        link.type, link.linkname = kind, f"ant/0.{extension}"
        tar.addfile(link)
    with pytest.raises(DataError, match=rf"train.tar: member ant/9.{extension} is a link, not a file"):
        opened(shard, valid_share=0.3).load()


@pytest.mark.parametrize("extension", ["png", "cls"])
def test_a_sparse_member_is_refused(extension, folder, tmp_path):
    shard = write_tar(tmp_path / "train.tar", rows(folder / "train"))
    with tarfile.open(shard, "a", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo(f"ant/9.{extension}")
        member.size, member.pax_headers = 4, {"GNU.sparse.map": "0,4", "GNU.sparse.size": "100"}
        tar.addfile(member, io.BytesIO(b"0\n\n\n"))
    with pytest.raises(DataError, match=rf"train.tar: member ant/9.{extension} is sparse"):
        opened(shard, valid_share=0.3).load()


def test_joined_shards_are_told(folder, tmp_path):
    some = list(rows(folder / "train"))
    first, second = (write_tar(tmp_path / f"{n}.tar", part) for n, part in enumerate((some[:4], some[4:])))
    joined = tmp_path / "train.tar"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(DataError, match=r"train.tar goes on after its end, byte \d+: are it several tar files in one"):
        opened(joined, valid_share=0.3).load()
    joined.write_bytes(write_tar(tmp_path / "all.tar", some).read_bytes() + bytes(3 << 20))
    assert len(opened(joined, valid_share=0.3).sources()[0]) > 3


@pytest.mark.parametrize("extension", ["cls", "json"])
def test_a_shard_that_is_cut_behind_the_header_of_a_label(extension, folder, tmp_path):
    shard = write_tar(tmp_path / "train.tar", list(rows(folder / "train"))[:1], label=extension)
    with tarfile.open(shard) as tar:
        cut(shard, tar.getmember(f"ant/0.{extension}").offset_data)
    with pytest.raises(DataError, match=rf"train.tar is cut: it ends within member ant/0.{extension}"):
        opened(shard, valid_share=0.3).load()


@pytest.mark.parametrize("header", [b"99 size=x\n", b"12 size=xyz\n"])
def test_damaged_extended_headers_are_told(header, folder, tmp_path):
    shard = write_tar(tmp_path / "train.tar", list(rows(folder / "train"))[:1])
    extended = tarfile.TarInfo("././@PaxHeader")
    extended.type, extended.size = tarfile.XHDTYPE, len(header)
    content = extended.tobuf(tarfile.USTAR_FORMAT) + header.ljust(512, b"\0")
    shard.write_bytes(content + shard.read_bytes())
    with pytest.raises(DataError, match=r"train.tar (is damaged|is no tar file|is cut)"):
        opened(shard, valid_share=0.3).load()


def test_few_shards_are_open_at_a_time(folder, tmp_path, monkeypatch):
    some = [(f"{key}{shard}", *row) for shard in range(5) for key, *row in rows(folder / "train")]
    for number in range(15):
        write_tar(tmp_path / f"train-{number:03}.tar", some[number * 3 : number * 3 + 3])
    monkeypatch.setattr(tar_source, "_MOST_OPEN", 4)
    before = len(os.listdir("/proc/self/fd"))
    train, *_ = opened(tmp_path, valid_share=0.1).sources()
    for order in (range(len(train)), reversed(range(len(train)))):
        for index in order:
            assert train.read(index)[0] in {data for *_, data, _ in some}
            assert len(os.listdir("/proc/self/fd")) <= before + 4
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(train.read, np.random.default_rng(0).integers(0, len(train), 200)))) == 200
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_a_shard_that_is_gone_is_a_bad_example(folder, tmp_path):
    shard = write_tar(tmp_path / "train.tar", rows(folder / "train"))
    train, *_ = opened(shard, valid_share=0.3).sources()
    shard.unlink()
    with pytest.raises(BadExample, match=r"train.tar: member ant/\d.png: .*train.tar cannot be read: No such file"):
        train.read(0)


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
    # Another shard of the same size and time of change, as a copy may keep it.
    status = shard.stat()
    write_tar(shard, some[::-1])
    assert shard.stat().st_size == status.st_size
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
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
