"""MXNet's RecordIO: records framed by a magic number, an index of their offsets, and the header of packed images.

A record is u32 magic, u32 of 3 bits part and 29 bits length, the payload, and zeros up to a multiple of 4 bytes. A
payload that holds the magic number at a multiple of 4 is split there into parts (1 first, 2 middle, 3 last; 0 whole),
and the number itself is left out. Source: dmlc-core's recordio and mxnet.recordio.
"""

import pathlib
import re
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.names import one_line
from mhe_jax.data.stores import RangedFile

MAGIC = 0xCED7230A
MAX_LENGTH = (1 << 29) - 1
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_FRAME = struct.Struct("<II")
IMAGE_HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2
FLOAT_WHOLE = 1 << 24  # up to here float32, the type of labels, holds every whole number
_INDEX_LINES = re.compile(rb"(?:\d{1,18}\t\d{1,18}\r?\n)*+")
_INDEX_BLOCK = 1 << 20  # bytes


class DamagedRecord(BadExample):
    """A record that cannot be read; `offset` is where it begins, `reason` what is wrong."""

    def __init__(self, path: str, offset: int, reason: str):
        super().__init__(path, offset, reason)
        self.offset, self.reason = offset, reason

    def __str__(self) -> str:
        path, offset, reason = self.args
        return one_line(f"{path}: damaged record at byte {offset}: {reason}")


class RecordFile:
    """Reads a RecordIO file by offset. Picklable: each process opens it when it first reads; threads may share it."""

    def __init__(self, path: str | pathlib.Path):
        self.path, self._file = str(path), RangedFile(path)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    def read(self, offset: int) -> tuple[bytes, int]:
        """(payload, offset of what follows) of the record that begins at `offset`; raises DamagedRecord."""
        size, place = self.size, offset
        parts: list[bytes] = []
        while True:
            head = self._bytes(offset, place, _FRAME.size)
            if len(head) < _FRAME.size:
                raise DamagedRecord(self.path, offset, f"the file ends at byte {size}, within a record")
            magic, word = _FRAME.unpack(head)
            part, length = word >> 29, word & MAX_LENGTH
            if magic != MAGIC:
                raise DamagedRecord(self.path, offset, f"no record begins at byte {place}: {head[:4].hex()} is there")
            if part not in ((2, 3) if parts else (0, 1)):
                raise DamagedRecord(self.path, offset, f"part {len(parts) + 1}, at byte {place}, is marked {part}")
            begin, end = place + _FRAME.size, place + _FRAME.size + length + -length % 4
            if end > size:
                raise DamagedRecord(self.path, offset, f"it reaches to byte {end}, but the file ends at byte {size}")
            parts.append(self._bytes(offset, begin, length))
            if len(parts[-1]) < length:
                raise DamagedRecord(self.path, offset, "the file was cut while it was read")
            if part in (0, 3):
                return _MAGIC_BYTES.join(parts), end
            place = end

    def scan(self) -> Iterator[tuple[int, bytes]]:
        """(offset, payload) of all records in order; where the file is damaged it stops and raises DamagedRecord."""
        offset = 0
        while offset < self.size:
            payload, end = self.read(offset)
            yield offset, payload
            offset = end

    def _bytes(self, offset: int, place: int, count: int) -> bytes:
        try:
            return self._file.read(place, count)
        except OSError as error:
            raise DamagedRecord(self.path, offset, f"byte {place} cannot be read: {error.strerror}") from error


def write_record(file: BinaryIO, payload: bytes) -> None:
    """Appends a record, in parts where the payload holds the magic number.

    Raises:
      DataError: for a payload of 2^29 bytes or more, which the format cannot hold.
    """
    if len(payload) > MAX_LENGTH:
        raise DataError(f"a record of {len(payload)} bytes does not fit in RecordIO, which holds {MAX_LENGTH}")
    begin, found = 0, payload.find(_MAGIC_BYTES)
    while found >= 0:
        if found % 4:
            found = payload.find(_MAGIC_BYTES, found + 1)
            continue
        file.write(_FRAME.pack(MAGIC, (2 if begin else 1) << 29 | found - begin) + payload[begin:found])
        begin = found + len(_MAGIC_BYTES)
        found = payload.find(_MAGIC_BYTES, begin)
    last = payload[begin:]
    file.write(_FRAME.pack(MAGIC, (3 if begin else 0) << 29 | len(last)) + last + bytes(-len(last) % 4))


def require_whole_labels(num_classes: int, where: str) -> None:
    """Raises DataError if labels 0 .. num_classes - 1 are more than float32, the format's type, tells apart."""
    if num_classes - 1 > FLOAT_WHOLE:
        raise DataError(f"{where}: {num_classes} identities, but RecordIO's float32 labels end at {FLOAT_WHOLE}")


class PackedImage(NamedTuple):
    """What a record of an image holds. labels: float32 [L]; flag: 0, or L where labels follow the header."""

    flag: int
    labels: np.ndarray
    key: int
    image: bytes


def pack_image(labels: float | Iterable[float], key: int, image: bytes) -> bytes:
    """The payload of an image, as mxnet.recordio.pack makes it: one label in the header, or several after it."""
    if isinstance(labels, (int, float)):
        return IMAGE_HEADER.pack(0, labels, key, 0) + image
    several = np.array(list(labels), "<f4")
    return IMAGE_HEADER.pack(len(several), 0.0, key, 0) + several.tobytes() + image


def unpack_image(payload: bytes, where: str) -> PackedImage:
    """Takes a payload apart; BadExample, which begins with `where`, if it is too short for its header."""
    if len(payload) < IMAGE_HEADER.size:
        raise BadExample(f"{where}: {len(payload)} bytes are too few for the header of an image")
    flag, label, key, _ = IMAGE_HEADER.unpack_from(payload)
    begin = IMAGE_HEADER.size + 4 * flag
    if begin > len(payload):
        raise BadExample(f"{where}: {len(payload)} bytes are too few for its {flag} labels")
    labels = np.frombuffer(payload, "<f4", flag, IMAGE_HEADER.size) if flag else np.array([label], np.float32)
    return PackedImage(flag, labels, key, payload[begin:])


def read_index(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """(keys, offsets), int64 [N], of an index with lines `key<tab>offset`; line i describes entry i - 1.

    Raises:
      DataError: naming the line, if it is anything else or repeats a key.
    """
    blocks, count = [np.empty(0, np.int64)], 0
    try:
        with path.open("rb") as file:
            while lines := file.readlines(_INDEX_BLOCK):
                if not lines[-1].endswith(b"\n"):
                    lines[-1] += b"\n"
                block = b"".join(lines)
                if not _INDEX_LINES.fullmatch(block):
                    wrong = next(place for place, line in enumerate(lines) if not _INDEX_LINES.fullmatch(line))
                    raise DataError(
                        f"{path}:{count + wrong + 1}: must be a key, a tab and an offset: {lines[wrong][:80]!r}"
                    )
                blocks.append(np.fromstring(block, np.int64, sep=" "))
                count += len(lines)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    keys, offsets = np.concatenate(blocks).reshape(-1, 2).T.copy()
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(again):
        line = int(order[again + 1].min())
        raise DataError(f"{path}:{line + 1}: repeats the key {keys[line]}")
    return keys, offsets


def index_lines(keys: Iterable[int], offsets: Iterable[int]) -> bytes:
    """The lines of an index."""
    return b"".join(b"%d\t%d\n" % entry for entry in zip(keys, offsets, strict=True))
