import io
import pickle
import struct

import numpy as np
import pytest

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.faces.formats.recordio import (
    DamagedRecord,
    RecordFile,
    index_lines,
    pack_image,
    read_index,
    unpack_image,
    write_record,
)

MAGIC = bytes.fromhex("0a23d7ce")  # 0xced7230a, little endian


def part(kind, payload):
    return MAGIC + struct.pack("<I", kind << 29 | len(payload)) + payload + b"\0" * (-len(payload) % 4)


# By hand: 5 bytes and 3 of padding; nothing; a payload of AAAA magic BBBB magic CC.
BY_HAND = (
    bytes.fromhex("0a23d7ce 05000000 68656c6c 6f000000")
    + bytes.fromhex("0a23d7ce 00000000")
    + bytes.fromhex("0a23d7ce 04000020 41414141")
    + bytes.fromhex("0a23d7ce 04000040 42424242")
    + bytes.fromhex("0a23d7ce 02000060 43430000")
)
PAYLOADS = [b"hello", b"", b"AAAA" + MAGIC + b"BBBB" + MAGIC + b"CC"]
OFFSETS = [0, 16, 24]


@pytest.fixture
def rec(tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(BY_HAND)
    return path


def test_hand_made_records_are_read_in_order_and_by_offset(rec):
    file = RecordFile(rec)
    assert list(file.scan()) == list(zip(OFFSETS, PAYLOADS, strict=True))
    assert file.read(24) == (PAYLOADS[2], len(BY_HAND))
    assert file.read(0) == (b"hello", 16)
    assert pickle.loads(pickle.dumps(file)).read(16) == (b"", 24)


def test_the_writer_makes_the_hand_made_bytes():
    written = io.BytesIO()
    for payload in PAYLOADS:
        write_record(written, payload)
    assert written.getvalue() == BY_HAND


@pytest.mark.parametrize("seed", range(20))
def test_any_payload_is_read_back(tmp_path, seed):
    """Payloads full of magic numbers, aligned and not, against a splitter by words."""
    rng = np.random.default_rng(seed)
    payloads = [
        b"".join(MAGIC if rng.random() < 0.4 else rng.bytes(rng.integers(0, 6)) for _ in range(rng.integers(0, 9)))
        for _ in range(20)
    ]
    with (tmp_path / "a.rec").open("wb") as file:
        for payload in payloads:
            write_record(file, payload)
    expected = b""
    for payload in payloads:
        pieces, begin = [], 0
        for place in range(0, len(payload) - 3, 4):
            if payload[place : place + 4] == MAGIC:
                pieces.append(payload[begin:place])
                begin = place + 4
        pieces.append(payload[begin:])
        kinds = [0] if len(pieces) == 1 else [1] + [2] * (len(pieces) - 2) + [3]
        expected += b"".join(map(part, kinds, pieces))
    assert (tmp_path / "a.rec").read_bytes() == expected
    assert [payload for _, payload in RecordFile(tmp_path / "a.rec").scan()] == payloads


def test_a_file_cut_anywhere_yields_all_records_before_the_cut(tmp_path):
    ends = [16, 24, len(BY_HAND)]
    for cut in range(len(BY_HAND)):
        path = tmp_path / f"{cut}.rec"
        path.write_bytes(BY_HAND[:cut])
        whole = sum(end <= cut for end in ends)
        found, damage = [], None
        try:
            for offset, payload in RecordFile(path).scan():
                found.append((offset, payload))
        except DamagedRecord as error:
            damage = error
        assert found == list(zip(OFFSETS, PAYLOADS, strict=True))[:whole]
        if cut in (0, *ends):
            assert damage is None
        else:
            assert damage.offset == OFFSETS[whole]
            assert str(damage).startswith(f"{path}: damaged record at byte {OFFSETS[whole]}: ")
            assert f"byte {cut}" in damage.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"12345678", "no record begins at byte 0: 31323334 is there"),
        (part(2, b"abcd"), "part 1, at byte 0, is marked 2"),
        (part(3, b""), "part 1, at byte 0, is marked 3"),
        (part(5, b""), "part 1, at byte 0, is marked 5"),
        (part(1, b"abcd") + part(0, b""), "part 2, at byte 12, is marked 0"),
        (part(1, b"abcd") + b"\0" * 8, "no record begins at byte 12: 00000000 is there"),
        (part(1, b"abcd"), "the file ends at byte 12, within a record"),
        (MAGIC + b"\xff\xff\xff\x1f" + b"abcd", "it reaches to byte 536870920, but the file ends at byte 12"),
    ],
)
def test_damage_says_what_is_wrong(tmp_path, data, reason):
    (tmp_path / "a.rec").write_bytes(data)
    with pytest.raises(DamagedRecord) as caught:
        RecordFile(tmp_path / "a.rec").read(0)
    assert caught.value.reason == reason
    again = pickle.loads(pickle.dumps(caught.value))  # as worker processes send it
    assert (str(again), again.offset) == (f"{tmp_path}/a.rec: damaged record at byte 0: {reason}", 0)


def test_a_file_that_is_not_there():
    with pytest.raises(DataError, match="/no/such.rec cannot be read: No such file"):
        RecordFile("/no/such.rec").read(0)


class Long(bytes):
    def __len__(self):
        return 1 << 29


def test_a_payload_that_the_format_cannot_hold():
    with pytest.raises(DataError, match="a record of 536870912 bytes does not fit"):
        write_record(io.BytesIO(), Long())


def test_image_headers_by_hand():
    one = bytes.fromhex("00000000 00004040 0700000000000000 0000000000000000") + b"jpeg"
    two = bytes.fromhex("02000000 00000000 0700000000000000 0000000000000000 00004040 0000a040") + b"jpeg"
    assert pack_image(3.0, 7, b"jpeg") == one
    assert pack_image((3, 5), 7, b"jpeg") == two
    for payload, labels in ((one, [3]), (two, [3, 5])):
        packed = unpack_image(payload, "x")
        assert (packed.labels.tolist(), packed.key, packed.image) == (labels, 7, b"jpeg")
    for cut in range(24):
        with pytest.raises(BadExample, match=rf"^x: {cut} bytes are too few for the header"):
            unpack_image(one[:cut], "x")
    for cut in range(24, 32):
        with pytest.raises(BadExample, match=rf"^x: {cut} bytes are too few for its 2 labels"):
            unpack_image(two[:cut], "x")
    with pytest.raises(BadExample, match="too few for its 4294967295 labels"):
        unpack_image(b"\xff" * 24, "x")


def test_index_files(tmp_path):
    path = tmp_path / "a.idx"
    path.write_bytes(b"3\t0\n1\t400\r\n0\t16")  # with ends of Windows, and without a last one
    keys, offsets = read_index(path)
    assert (keys.tolist(), offsets.tolist(), keys.dtype) == ([3, 1, 0], [0, 400, 16], np.int64)
    assert index_lines([3, 1], [0, 400]) == b"3\t0\n1\t400\n"
    path.write_bytes(b"")
    assert [len(column) for column in read_index(path)] == [0, 0]
    many = np.arange(200_000)
    path.write_bytes(index_lines(many.tolist(), (4 * many).tolist()))
    np.testing.assert_array_equal(read_index(path), [many, 4 * many])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0\t0\n1 4\n", r"a\.idx:2: must be a key, a tab and an offset: b'1 4\\n'"),
        (b"0\t0\n\n1\t4\n", r"a\.idx:2: must be"),
        (b"0\t-4\n", r"a\.idx:1: must be"),
        (b"0.0\t4\n", r"a\.idx:1: must be"),
        (b"0\t0\t0\n", r"a\.idx:1: must be"),
        (b"0\t0\n1\t1234567890123456789\n", r"a\.idx:2: must be"),
        (b"0\t0\n1\t4\n1\t8\n0\t12\n", r"a\.idx:3: repeats the key 1"),
        (index_lines(range(200_000), range(200_000)) + b"x\t1\n", r"a\.idx:200001: must be"),
    ],
)
def test_bad_lines_of_an_index_are_named(tmp_path, content, message):
    (tmp_path / "a.idx").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_index(tmp_path / "a.idx")


def test_an_index_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"a\.idx cannot be read: No such file"):
        read_index(tmp_path / "a.idx")


def attempt(function, kind):
    """What a call returns, or the error of that kind."""
    try:
        return function()
    except kind as error:
        return error


def test_random_damage_raises_only_what_is_documented(tmp_path):
    rng = np.random.default_rng(0)
    rec, idx = tmp_path / "a.rec", tmp_path / "a.idx"
    raised = [0, 0]
    for _ in range(400):
        data = bytearray(BY_HAND)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] ^= 1 << rng.integers(8)
        rec.write_bytes(data[: rng.integers(len(data)) + 1] if rng.random() < 0.3 else data)
        found = attempt(lambda: list(RecordFile(rec).scan()), DamagedRecord)
        if isinstance(found, DamagedRecord):
            raised[0] += 1
            assert 0 <= found.offset < len(data)
        else:
            assert sum(len(payload) for _, payload in found) <= len(data)
        lines = bytearray(b"0\t0\n1\t16\n2\t24\n")
        lines[rng.integers(len(lines))] = rng.integers(256)
        idx.write_bytes(lines)
        entries = attempt(lambda: read_index(idx), DataError)
        if isinstance(entries, DataError):
            raised[1] += 1
            assert str(entries).startswith(f"{idx}:")
        else:
            assert len(set(entries[0].tolist())) == len(entries[0]) <= 3
    assert min(raised) > 100
