"""Faces in RecordIO, as insightface's sets (MS1M, Glint360K, WebFace) and im2rec write them: train.rec, .idx, property.

insightface's record 0 is a header of two labels, (first, end): the images are the keys 1 .. first - 1, and a record
from first to end - 1 belongs to an identity and has no image. Files without that record hold an image at every key.
"""

import dataclasses
import functools
import pathlib
import re
import warnings
from typing import Any

import numpy as np
import tqdm

from mhe_jax.data.dataset import BadExample, DataError, require_one_of, require_plausible
from mhe_jax.data.faces.formats.recordio import (
    FLOAT_WHOLE,
    IMAGE_HEADER,
    MAGIC,
    MAX_LENGTH,
    DamagedRecord,
    RecordFile,
    read_index,
    require_whole_labels,
    unpack_image,
)

_BLOCK = 1 << 16  # records whose headers are looked at together
_WORDS = 2 + IMAGE_HEADER.size // 4 + 1  # of 4 bytes: frame, image header and the first label that follows


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """The images of a RecordIO file: int64 [N] keys and offsets, in the order of the index.

    on_bad_example: with 'skip', `read_labels` marks a damaged record by the label -1 instead of raising BadExample.
    """

    path: str
    keys: np.ndarray
    offsets: np.ndarray
    num_classes: int
    on_bad_example: str = "raise"

    @functools.cached_property
    def _file(self) -> RecordFile:
        return RecordFile(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> tuple[bytes, int, str]:
        """(encoded image, label, name of the record).

        Raises:
          decode.BadExample: naming file, key and offset, for a damaged record.
          DataError: for a label that is not an identity.
        """
        where = self._where(index)
        try:
            payload, _ = self._file.read(int(self.offsets[index]))
        except DamagedRecord as error:
            raise BadExample(f"{where}: {error.reason}") from error
        packed = unpack_image(payload, where)
        label = packed.labels[0]
        if not _is_identity(label, self.num_classes):
            raise self._bad_label(index, label)
        return packed.image, int(label), where

    def identity(self) -> tuple[np.ndarray, np.ndarray, int]:
        return self.keys, self.offsets, self.num_classes

    def read_labels(self) -> np.ndarray:
        """int32 [N] labels, from one pass over the records' headers; raises as `read` does."""
        labels = np.full(len(self), -1, np.int32)
        size = self._file.size
        words = np.memmap(self.path, "<u4", "r", shape=(size // 4,)) if size >= 4 else np.empty(0, "<u4")
        blocks = range(0, len(self), _BLOCK)
        # disable=None shows the bar on a terminal only.
        for start in tqdm.tqdm(blocks, f"labels of {self.path}", disable=None, leave=False):
            offsets = self.offsets[start : start + _BLOCK]
            rows = np.flatnonzero(offsets + 4 * _WORDS <= size)
            heads = words[offsets[rows, None] // 4 + np.arange(_WORDS)]
            # A part of a record has more than 29 bits of length here, and fails like a record that the file cuts.
            length, flag = heads[:, 1].astype(np.int64), heads[:, 2].astype(np.int64)
            whole = (heads[:, 0] == MAGIC) & (length >= IMAGE_HEADER.size + 4 * flag)
            whole &= (length <= MAX_LENGTH) & (offsets[rows] + 8 + length + -length % 4 <= size)
            rows, found = start + rows[whole], np.where(flag > 0, heads[:, -1], heads[:, 3])[whole].view("<f4")
            wrong = np.flatnonzero(~_is_identity(found, self.num_classes))
            if len(wrong):
                raise self._bad_label(int(rows[wrong[0]]), found[wrong[0]])
            labels[rows] = found.astype(np.int32)
            self._read_others(labels, np.setdiff1d(np.arange(start, start + len(offsets)), rows))
        return labels

    def _read_others(self, labels: np.ndarray, rows: np.ndarray) -> None:
        """Labels of records in parts, of those at the file's end and of damaged ones."""
        for row in rows.tolist():
            try:
                labels[row] = self.read(row)[1]
            except BadExample:
                if self.on_bad_example == "raise":
                    raise

    def _where(self, index: int) -> str:
        return f"{self.path} record {self.keys[index]} at byte {self.offsets[index]}"

    def _bad_label(self, index: int, label: np.floating) -> DataError:
        limit = f"from 0 to {self.num_classes - 1}" if self.num_classes else "from 0"
        return DataError(f"{self._where(index)}: its label is {label:.10g}, which is not an identity {limit}")


def _is_identity(label: Any, num_classes: int) -> Any:
    """Whether float labels are whole numbers of 0 .. num_classes - 1; num_classes 0 is any number."""
    label = np.float64(label)  # or numpy would round num_classes to float32
    return (label >= 0) & (label < (num_classes or 2**31)) & (label == np.floor(label))


def open_records(path: str, on_bad_example: str = "raise") -> RecordSource:
    """Opens a set.

    Args:
      path: a folder with train.rec, or a .rec file. The index beside it is rebuilt in memory if it is missing, with a
        warning. num_classes comes from the file `property`, else from the header record, else from the labels.
      on_bad_example: with 'skip' a damaged file is opened too: what cannot be read of it raises BadExample in `read`.

    Raises:
      DataError: if a file is missing or damaged, or the index is not that of the records.
    """
    require_one_of("on_bad_example", on_bad_example, ("raise", "skip"))
    rec = pathlib.Path(path).expanduser()
    rec = rec / "train.rec" if rec.is_dir() else rec
    if not rec.is_file():
        raise DataError(f"{rec} does not exist: records are read from a folder with train.rec, or from a .rec file")
    file, index, strict = RecordFile(rec), rec.with_suffix(".idx"), on_bad_example == "raise"
    if index.is_file():
        keys, offsets = read_index(index)
        _check_index(file, index, keys, offsets, strict)
    else:
        warnings.warn(f"{index} does not exist: its content is found by reading {rec} once", stacklevel=2)
        keys, offsets = _rebuild_index(file, strict)
    if not len(keys):
        raise DataError(f"{index if index.is_file() else rec} holds no record")
    header = _header(file, keys, offsets)
    if header is not None:
        keys, offsets = _images(file.path, header, keys, offsets, strict)
    num_classes = read_property(rec.parent / "property") or (header[1] - header[0] if header else 0)
    source = RecordSource(file.path, keys, offsets, num_classes, on_bad_example)
    if not num_classes:
        highest = int(source.read_labels().max())
        if highest < 0:
            raise DataError(f"{rec} holds no record that can be read")
        source = dataclasses.replace(source, num_classes=highest + 1)
    require_whole_labels(source.num_classes, str(rec))
    require_plausible(source.num_classes, len(source), "identities", rec)
    return source


def read_property(path: pathlib.Path) -> int:
    """num_classes of a file `num_classes,height,width`, or 0 if there is none; raises DataError naming it."""
    if not path.is_file():
        return 0
    text = path.read_bytes()[:100].decode("latin-1").strip()
    fields = text.split(",")
    if len(fields) != 3 or not all(re.fullmatch(r"[1-9]\d{0,8}", field.strip(), re.ASCII) for field in fields):
        raise DataError(f"{path}: must hold num_classes,height,width like 1000,112,112; it holds {text!r}")
    return int(fields[0])


def _check_index(file: RecordFile, index: pathlib.Path, keys: np.ndarray, offsets: np.ndarray, strict: bool) -> None:
    """Raises DataError, naming the line, for an index whose offsets or number cannot be those of the records."""
    if not len(keys):
        return
    wrong = np.flatnonzero((offsets % 4 != 0) | (strict & (offsets >= file.size)))
    if len(wrong):
        line = int(wrong[0])
        problem = "no multiple of 4" if offsets[line] % 4 else f"beyond the end of {file.path}, at byte {file.size}"
        raise DataError(f"{index}:{line + 1}: the offset {offsets[line]} of record {keys[line]} is {problem}")
    if not strict:
        return
    first, last = int(offsets.argmin()), int(offsets.argmax())
    for line in (first, last):
        try:
            _, end = file.read(int(offsets[line]))
        except DamagedRecord as error:
            raise DataError(f"{index}:{line + 1}: record {keys[line]} cannot be read: {error}") from error
    if offsets[first] != 0 or end != file.size:
        raise DataError(
            f"{index}:{last + 1}: the {len(keys)} records of the index take the bytes {offsets[first]} to {end} of "
            f"{file.path}, which has {file.size}: remove the index to have it rebuilt"
        )


def _rebuild_index(file: RecordFile, strict: bool) -> tuple[np.ndarray, np.ndarray]:
    """(keys, offsets) of all records up to the first damage, which is an error if strict."""
    keys, offsets = [], []
    try:
        with tqdm.tqdm(
            desc=f"index of {file.path}", total=file.size, unit="B", unit_scale=True, disable=None, leave=False
        ) as bar:
            for offset, payload in file.scan():
                offsets.append(offset)
                keys.append(unpack_image(payload, f"{file.path} at byte {offset}").key)
                bar.update(offset - bar.n)
    except BadExample as error:
        message = f"{error}; {len(keys)} whole records come before it"
        if strict:
            raise DataError(f"{message} (on_bad_example='skip' would use those)") from error
        warnings.warn(message, stacklevel=3)
    numbered = np.array(keys, np.uint64)
    # Both writers store the key as the image's id; a set whose ids say nothing is numbered as it lies.
    if len(np.unique(numbered)) < len(keys) or (numbered >> 62).any():
        numbered = np.arange(len(keys), dtype=np.uint64)
    return numbered.astype(np.int64), np.array(offsets[: len(keys)], np.int64)


def _header(file: RecordFile, keys: np.ndarray, offsets: np.ndarray) -> tuple[int, int] | None:
    """(first identity's key, end) if record 0 is insightface's header, and not an image or damaged."""
    for place in np.flatnonzero(keys == 0).tolist():
        try:
            packed = unpack_image(file.read(int(offsets[place]))[0], file.path)
        except BadExample:
            return None
        if packed.flag == 2 and not packed.image:
            first, end = packed.labels.tolist()
            if not (1 <= first <= end < 2**31 and first == int(first) and end == int(end)):
                raise DataError(
                    f"{file.path} record 0 at byte {offsets[place]}: the header says that identities have the keys "
                    f"{first:.10g} to {end:.10g}"
                )
            return _exact(file, keys, offsets, int(first), int(end))
    return None


def _exact(file: RecordFile, keys: np.ndarray, offsets: np.ndarray, first: int, end: int) -> tuple[int, int]:
    """The header's numbers as they were before float32 rounded them, which it does from 2^24 on.

    The records around tell: an identity's has no image, and the last one has the key end - 1.
    """
    if end < FLOAT_WHOLE:
        return first, end
    near = lambda number: np.flatnonzero(np.abs(keys - number) <= np.spacing(np.float32(number)))
    with_image: list[int] = []
    without: list[int] = []
    for place in near(first).tolist() if first >= FLOAT_WHOLE else ():
        try:
            image = unpack_image(file.read(int(offsets[place]))[0], file.path).image
        except BadExample:
            continue
        (with_image if image else without).append(int(keys[place]))
    last = near(end - 1)
    return (
        max(with_image) + 1 if with_image else min(without, default=first),
        int(keys[last].max()) + 1 if len(last) else end,
    )


def _images(
    path: str, header: tuple[int, int], keys: np.ndarray, offsets: np.ndarray, strict: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The entries with the keys 1 .. first - 1, in that order; if strict, all of them must be there."""
    order = np.argsort(keys)
    order = order[(keys[order] >= 1) & (keys[order] < header[0])]
    expected = header[0] - 1
    if len(order) < expected and strict:
        here = keys[order]
        gaps = np.flatnonzero(here != np.arange(1, len(here) + 1))
        missing = int(gaps[0]) + 1 if len(gaps) else len(here) + 1
        raise DataError(
            f"{path}: record 0 says that images have the keys 1 to {expected}, but the index has {len(order)} of "
            f"them: {missing} is missing"
        )
    if len(order) < expected:
        warnings.warn(f"{path}: {expected - len(order)} of {expected} images are not in the index", stacklevel=3)
    return keys[order], offsets[order]
