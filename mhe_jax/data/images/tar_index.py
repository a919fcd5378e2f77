"""Where the pictures of a tar shard lie, and their labels: found once, and kept for as long as the shard is the same.

A shard is in the layout of WebDataset: members `key.jpg` and `key.cls`, or `key.json` with a field for the class, in
any order; a key ends at the first dot of the member's name. Other members, such as `key.txt`, are not looked at.
"""

import functools
import hashlib
import json
import os
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from mhe_jax.data.cache import cache_root
from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.listing import EXTENSIONS, is_stray
from mhe_jax.data.stores import RangedFile, one_reason

BLOCK = tarfile.BLOCKSIZE
LABEL_FIELDS = ("label", "cls", "class")
_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
_LONGEST = {"cls": 1 << 10, "json": 1 << 20}  # bytes of a member with a label
_PIECE = 1 << 20  # bytes behind the end of a shard that are looked at together
_VERSION = 2  # of what is kept


class TarIndex(NamedTuple):
    """The pictures of one shard, in their order.

    keys, extensions: bytes [N]. offsets: int64 [N], where the picture itself begins. sizes: int64 [N].
    labels: str [N], as they are written. kind: 'text' of `key.cls`, 'integers' or 'strings' of JSON.
    """

    keys: np.ndarray
    extensions: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    kind: str


def index_of(path: str, image_key: str, label_key: str) -> TarIndex:
    """The index of a shard, from the user's cache folder where the shard has the size and time it had then.

    Args:
      path: of the shard, on a disk or in a store.
      image_key: the extension of the pictures; '' takes those of pictures.
      label_key: the field of `key.json`; '' takes `key.cls`, or the first of `LABEL_FIELDS`.

    Raises:
      DataError: naming the shard and the member, for a shard that is cut, damaged, empty or several in one, for a
        picture or a label that is a link or sparse, and for a key without a picture or a label, or with two.
    """
    file = RangedFile(path)
    whole = path if "://" in path else os.path.realpath(path)
    known = [_VERSION, whole, *file.version(), image_key, label_key]
    kept = cache_root() / "tars" / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]}.npz"
    try:
        with kept.open("rb") as opened, np.load(opened) as arrays:
            found = {name: arrays[name] for name in TarIndex._fields}
            return TarIndex(**{**found, "kind": str(found["kind"])})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none yet, or half of one
        pass
    index = _read(path, file, image_key, label_key)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".npz", delete=False) as written:
            try:
                np.savez(written, **index._asdict())
                written.flush()
                os.replace(written.name, kept)
            except BaseException:
                os.unlink(written.name)
                raise
    except OSError:  # a full or read-only home: it is found anew next time
        pass
    return index


def _read(path: str, file: RangedFile, image_key: str, label_key: str) -> TarIndex:
    pictures: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, tuple[str, str]] = {}
    with file.open() as opened:
        for member, tar in _members(path, opened):
            split = _KEY.fullmatch(member.name.removeprefix("./"))
            if split is None or is_stray(member.name.rpartition("/")[2]):
                continue
            key, extension = split.groups()
            if extension == image_key if image_key else f".{extension.lower()}" in EXTENSIONS:
                _require_file(path, member)
                if key in pictures:
                    raise DataError(f"{path}: two pictures have the key {key!r}: .{pictures[key][0]} and .{extension}")
                pictures[key] = extension, member.offset_data, member.size
            elif extension == "json" or (extension == "cls" and not label_key):
                _require_file(path, member)
                found = _label(
                    _content(path, tar, member, _LONGEST[extension]),
                    extension,
                    label_key,
                    f"{path}: member {member.name}",
                )
                if found is not None and (key not in labels or extension == "cls"):
                    labels[key] = found
    if not pictures:
        raise DataError(f"{path} holds no picture ({image_key or ', '.join(EXTENSIONS)})")
    wanted = f"{label_key!r} in its .json" if label_key else f".cls, nor .json with {' or '.join(LABEL_FIELDS)}"
    for key in pictures:
        if key not in labels:
            raise DataError(f"{path}: key {key!r} has no label: there is no {wanted}")
    for key in labels:
        if key not in pictures:
            raise DataError(f"{path}: key {key!r} has a label, but no picture")
    kinds = {labels[key][0] for key in pictures}
    if len(kinds) > 1:
        raise DataError(f"{path}: some labels are {' and others '.join(sorted(kinds))}: they must be of one kind")
    extensions, offsets, sizes = zip(*pictures.values(), strict=True)
    return TarIndex(
        np.array([os.fsencode(key) for key in pictures]),
        np.array([os.fsencode(extension) for extension in extensions]),
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
        np.array([labels[key][1] for key in pictures]),
        kinds.pop(),
    )


def _require_file(path: str, member: tarfile.TarInfo) -> None:
    """A member's bytes lie in one piece behind its header."""
    if member.issparse():
        raise DataError(f"{path}: member {member.name} is sparse: write the shard without --sparse")
    if not member.isreg():
        raise DataError(f"{path}: member {member.name} is a link, not a file")


def _content(path: str, tar: tarfile.TarFile, member: tarfile.TarInfo, longest: int) -> bytes:
    if member.size > longest:
        raise DataError(
            f"{path}: member {member.name} has {member.size:,} bytes, more than the {longest:,} of a label at most"
        )
    opened = tar.extractfile(member)
    assert opened is not None  # as a regular file
    try:
        return opened.read()
    except tarfile.ReadError:
        raise DataError(f"{path} is cut: it ends within member {member.name}") from None
    except OSError as error:
        raise DataError(f"{path} is damaged in member {member.name}: {one_reason(error)}") from error


def _members(path: str, opened: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """(member, the shard) of everything but folders, to an end that is one: zeros alone, of a block at least."""
    last = ""
    try:
        with tarfile.open(fileobj=opened, mode="r:") as tar:
            while (member := tar.next()) is not None:
                last = f"member {member.name}"
                if not member.isdir():
                    yield member, tar
                tar.members.clear()  # type: ignore[attr-defined]  # else all stay in memory
            opened.seek(tar.offset)
            end = opened.read(BLOCK)
            goes_on = not end.strip(b"\0") and any(
                piece.strip(b"\0") for piece in iter(functools.partial(opened.read, _PIECE), b"")
            )
    except tarfile.ReadError as error:
        if last:
            raise DataError(f"{path} is cut: it ends within {last}") from None
        reason = one_reason(error)
        raise DataError(f"{path} is no tar file, or a compressed one, which has no offsets: {reason}") from None
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:  # the latter of PAX headers
        raise DataError(f"{path} is damaged after {last or 'its beginning'}: {one_reason(error)}") from error
    if len(end) < BLOCK:
        raise DataError(f"{path} is cut: it ends after {last}, without the blocks of zeros that end a tar file")
    if end.strip(b"\0"):
        raise DataError(f"{path} is damaged: no member begins at byte {tar.offset}, after {last}")
    if goes_on:
        raise DataError(f"{path} goes on after its end, byte {tar.offset}: are it several tar files in one?")


def _label(content: bytes, extension: str, label_key: str, where: str) -> tuple[str, str] | None:
    """(kind, the label as it is written) of a member; None if it is JSON without a field for it."""
    try:
        text = content.decode()
        if extension == "cls":
            if not text.strip():
                raise DataError(f"{where} is empty; it must hold the class")
            return "text", text.strip()
        fields: Any = json.loads(text)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where} is no {'JSON' if extension == 'json' else 'UTF-8'}: {one_reason(error)}") from None
    if not isinstance(fields, dict):
        raise DataError(f"{where} must hold a JSON object, not {type(fields).__name__}")
    name = next((name for name in ((label_key,) if label_key else LABEL_FIELDS) if name in fields), None)
    if name is None:
        return None
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"{where}: {name!r} is {value!r}; a label must be an integer or a string")
    return ("integers" if isinstance(value, int) else "strings"), str(value)
