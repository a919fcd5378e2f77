"""Lines of `feature:value` pairs, with or without the row's labels before them.

Two formats of the field write rows so: the Extreme Classification Repository, with a header of numbers, and svmlight or
libsvm, without one.
"""

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError, require_plausible
from mhe_jax.data.lines import read_lines
from mhe_jax.data.texts.formats.labels import canonical
from mhe_jax.data.texts.sparse.rows import canonical_features

_LINES = 4096  # parsed at a time
_MOST = 2**31 - 1  # of any number that counts something
_NUMBER = rb"[-+]?+(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?+\d++)?+"
_PAIR = re.compile(rb"\d++:" + _NUMBER)
_PAIRS = re.compile(rb"(?:\s*+\d++:" + _NUMBER + rb"(?!\S))*+\s*+")
_LABELS = re.compile(r"\d++(?:,\d++)*+")


@dataclasses.dataclass(frozen=True)
class Parsed:
    """Rows as a file has them.

    features: CSR float32 [N, V]. labels: CSR float32 [N, L], None where the lines have no labels.
    listed: int32 [nnz], the columns of `labels` row by row in the order of the lines; None for that of `labels`.
    """

    features: scipy.sparse.csr_matrix
    labels: scipy.sparse.csr_matrix | None
    listed: np.ndarray | None = None


def read_repository(path: pathlib.Path, with_labels: bool) -> Parsed:
    """Rows below a header: `rows features labels` and lines `label,label feature:value ...`, or `rows features` and
    lines of pairs alone.

    Ids are counted from 0; a row may have no labels, its line then begins with a space, or no features.

    Raises:
      DataError: naming the line that is damaged, or contradicts the header.
    """
    lines = read_lines(path)
    what = ("rows", "features", "labels") if with_labels else ("rows", "features")
    sizes = _header(path, next(lines, ""), what)
    found = _Lines(path, with_labels, sizes[0])
    found.take(enumerate(lines, 2))
    number = len(found.counts)
    if number < sizes[0]:
        raise DataError(f"{path}:1: the header says {sizes[0]} rows, but there are {number}")
    return found.parsed(sizes[1], sizes[2] if with_labels else 0)


def read_svmlight(path: pathlib.Path) -> Parsed:
    """Rows without a header, `label,label feature:value ...`; what follows a `#` is no part of a row.

    A line that is empty, or nothing but a remark, is no row; one that begins with a space is a row without labels.

    There are as many features and labels as the highest number says, from 0 on.

    Raises:
      DataError: naming the line that is damaged.
    """
    found = _Lines(path, True, _MOST)
    lines = ((number, line.partition("#")[0]) for number, line in enumerate(read_lines(path), 1))
    found.take((number, row) for number, row in lines if row)
    if not len(found.counts):
        raise DataError(f"{path} holds no row")
    return found.parsed()


class _Lines:
    """The rows of one file, parsed by blocks of lines."""

    def __init__(self, path: pathlib.Path, with_labels: bool, most_rows: int):
        self._path, self._with_labels, self._most = path, with_labels, most_rows
        self._numbers = np.zeros(0, np.int64)  # of the rows' lines
        self._ids, self._values = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        self._labels = [np.zeros(0, np.int64)]
        self.counts, self.label_counts = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def take(self, lines: Iterator[tuple[int, str]]) -> None:
        """Reads rows, each with the number of its line."""
        counts, label_counts, numbers, taken = [self.counts], [self.label_counts], [self._numbers], 0
        while block := list(itertools.islice(lines, _LINES)):
            if taken + len(block) > self._most:
                number = block[self._most - taken][0]
                raise DataError(f"{self._path}:{number}: the header says {self._most} rows, but here is one more")
            labels, rows = zip(*(self._cut(line, number) for number, line in block), strict=True)
            numbers.append(np.fromiter((number for number, _ in block), np.int64, len(block)))
            ids, values = self._pairs(rows, numbers[-1])
            self._ids.append(ids)
            self._values.append(values)
            self._labels.append(np.fromiter(itertools.chain.from_iterable(labels), np.int64))
            counts.append(np.fromiter((row.count(":") for row in rows), np.int64, len(rows)))
            label_counts.append(np.fromiter(map(len, labels), np.int64, len(rows)))
            taken += len(block)
        self.counts, self.label_counts = np.concatenate(counts), np.concatenate(label_counts)
        self._numbers = np.concatenate(numbers)

    def parsed(self, num_features: int = 0, num_labels: int = 0) -> Parsed:
        """The rows; a number of 0 is that of the highest id that occurs, otherwise that of the header."""
        ids, labels = np.concatenate(self._ids), np.concatenate(self._labels)
        num_features = self._bound(ids, num_features, self.counts, "feature")
        num_labels = self._bound(labels, num_labels, self.label_counts, "label")
        require_plausible(num_features, len(ids), "features", self._path)
        shape = len(self.counts), num_features
        matrix = scipy.sparse.csr_matrix((np.concatenate(self._values), ids, _offsets(self.counts)), shape)
        features = canonical_features(matrix, str(self._path))
        if not self._with_labels:
            return Parsed(features, None)
        require_plausible(num_labels, len(labels), "labels", self._path)
        has = scipy.sparse.csr_matrix(
            (np.ones(len(labels), np.float32), labels, _offsets(self.label_counts)), (shape[0], num_labels)
        )
        has, _, listed = canonical(has)
        return Parsed(features, has, listed)

    def _bound(self, ids: np.ndarray, most: int, counts: np.ndarray, what: str) -> int:
        """How many ids there are; raises DataError, naming the line, if one is outside."""
        bad = np.flatnonzero(ids >= (most or _MOST))
        if len(bad):
            line = self._numbers[np.searchsorted(np.cumsum(counts), bad[0], side="right")]
            said = f"the header says {most} {what}s" if most else f"there may be {_MOST} {what}s"
            raise DataError(f"{self._path}:{line}: {what} {ids[bad[0]]}, but {said}, counted from 0")
        return most or int(ids.max(initial=-1)) + 1

    def _cut(self, line: str, number: int) -> tuple[list[int], str]:
        """The labels of a line, and the rest of it."""
        if not self._with_labels:
            return [], line
        head, _, rest = line.partition(" ") if "\t" not in line else line.replace("\t", " ").partition(" ")
        if not head or ":" in head:
            return [], line
        if not _LABELS.fullmatch(head):
            raise DataError(
                f"{self._path}:{number}: a row begins with its labels, numbers with commas between them, not with "
                f"{head[:80]!r}"
            )
        labels = head.split(",")
        if max(map(len, labels)) > len(str(_MOST)):
            raise DataError(f"{self._path}:{number}: a label is more than {_MOST}")
        return [int(label) for label in labels], rest

    def _pairs(self, rows: tuple[str, ...], lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        data = "\n".join([*rows, ""]).encode()
        if not _PAIRS.fullmatch(data):
            raise self._fault(rows, lines)
        pairs = data.count(b":")
        if not pairs:  # np.fromstring takes white space for a number
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        numbers = np.fromstring(data.replace(b":", b" "), np.float64, sep=" ")
        ids, values = numbers[::2], numbers[1::2]
        if ids.max() > _MOST or not np.abs(values).max() <= np.finfo(np.float32).max:
            raise self._fault(rows, lines)
        return ids.astype(np.int64), values.astype(np.float32)

    def _fault(self, rows: tuple[str, ...], numbers: np.ndarray) -> DataError:
        """What is wrong in rows of which something is, `numbers` being those of their lines."""
        for number, row in zip(numbers, rows, strict=True):
            for pair in row.encode().split():
                if not _PAIR.fullmatch(pair):
                    return DataError(
                        f"{self._path}:{number}: {pair.decode()[:80]!r} must be 'feature:value' with the number of a "
                        "feature and a finite value"
                    )
                feature, value = pair.split(b":")
                if float(feature) > _MOST or abs(float(value)) > float(np.finfo(np.float32).max):
                    return DataError(
                        f"{self._path}:{number}: {pair.decode()[:80]!r} is beyond what int32 and float32 hold"
                    )
        raise AssertionError(f"{self._path}: lines {numbers[0]} to {numbers[-1]} cannot be read")


def _header(path: pathlib.Path, line: str, what: tuple[str, ...]) -> list[int]:
    numbers = line.split()
    if len(numbers) != len(what) or not all(number.isdecimal() and len(number) < 11 for number in numbers):
        raise DataError(f"{path}:1: the header must be {' '.join(what)!r}, numbers, but is {line[:80]!r}")
    sizes = list(map(int, numbers))
    for size, name in zip(sizes, what, strict=True):
        if not 1 <= size <= _MOST:
            raise DataError(f"{path}:1: the header says {size} {name}; it must be from 1 to {_MOST}")
    return sizes


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])
