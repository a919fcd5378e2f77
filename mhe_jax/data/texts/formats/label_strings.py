"""Files of label strings, a line per document, as rows of numbers: a label's number is its string's rank.

Strings that are plain numbers, as in the large data sets, are read without a Python object for each: a dictionary takes
about a microsecond to find one of millions of strings, and there are a hundred million to find.
"""

import itertools
import pathlib
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import read_lines
from mhe_jax.data.texts.formats.labels import LabelNumbers, LabelRows

_LINES = 8192  # parsed at a time
_SEPARATORS = frozenset(",;|")  # of labels elsewhere
_NUMBERS = _SEPARATORS | frozenset("0123456789")
_DIGITS = 8  # of the largest number: a table of all numbers then takes 500 MB at most


def read_label_strings(paths: Sequence[pathlib.Path]) -> tuple[tuple[str, ...], np.ndarray, list[LabelRows]]:
    """The labels of several files together, separated by white space or, where all are numbers, commas and the like.

    Returns:
      All labels in lexicographic order; int32, from a label's number in the rows to its rank; and the rows by file.

    Raises:
      DataError: if a file cannot be read, or labels are separated by something else, as far as that shows.
    """
    return _read_numbers(paths) or _read_strings(paths)


def _read_strings(
    paths: Sequence[pathlib.Path], spaces: Mapping[int, str] | None = None
) -> tuple[tuple[str, ...], np.ndarray, list[LabelRows]]:
    """The labels between white space, once `spaces` has replaced what separates them, if it is given."""
    numbers, found, several = LabelNumbers(), [], False
    for path in paths:
        found.append(LabelRows())
        for line in read_lines(path):
            words = (line.translate(spaces) if spaces else line).split()
            several |= len(words) > 1
            found[-1].add(map(numbers.__getitem__, words))
    labels, rank = numbers.ranked()
    joined = [label for label in labels if not _SEPARATORS.isdisjoint(label)]
    if joined and all(_NUMBERS.issuperset(label) for label in labels):
        return _read_strings(paths, dict.fromkeys(map(ord, _SEPARATORS), " "))
    where = " and ".join(map(str, paths))
    # `Rome, Paris`, or no white space at all: it is something else that separates. A name may hold a comma.
    ending = [label for label in joined if label[-1] in _SEPARATORS]
    if (ending and 4 * len(ending) >= len(labels)) or (not several and 2 * len(joined) > len(labels)):
        raise DataError(
            f"{where}: {len(joined)} of {len(labels)} labels are like {joined[0][:80]!r}; "
            "labels must be separated by white space, and hold none themselves"
        )
    if 2 * len(joined) > len(labels):
        warnings.warn(
            f"{where}: labels are what white space separates, and {len(joined)} of {len(labels)} are like "
            f"{joined[0][:80]!r}",
            stacklevel=2,
        )
    return tuple(labels), rank, found


def _read_numbers(paths: Sequence[pathlib.Path]) -> tuple[tuple[str, ...], np.ndarray, list[LabelRows]] | None:
    """The same where all labels are numbers of at most eight digits, without leading zeros; else None."""
    found, seen = [], np.zeros(0, bool)
    for path in paths:
        found.append(LabelRows())
        lines = read_lines(path)
        while block := list(itertools.islice(lines, _LINES)):
            parsed = _parse_numbers("\n".join([*block, ""]))
            if parsed is None:
                return None
            counts, numbers = parsed
            found[-1].extend(counts, numbers)
            largest = int(numbers.max(initial=-1))
            if largest >= len(seen):
                seen = np.pad(seen, (0, max(largest + 1 - len(seen), len(seen))))
            seen[numbers] = True
    labels = sorted(map(str, np.flatnonzero(seen).tolist()))
    rank = np.zeros(len(seen), np.int32)
    rank[np.fromiter(map(int, labels), np.int64, len(labels))] = np.arange(len(labels))
    return tuple(labels), rank, found


def _parse_numbers(text: str) -> tuple[np.ndarray, np.ndarray] | None:
    """How many numbers each line holds, int64, and all of them, int32; None where anything else occurs."""
    data = np.frombuffer(text.encode(), np.uint8)
    digit = (data >= ord("0")) & (data <= ord("9"))
    line_end = data == ord("\n")
    if not (digit | line_end | (data == ord(" ")) | (data == ord("\t"))).all():
        return None
    edges = np.diff(digit, prepend=False)
    starts, stops = np.flatnonzero(edges).reshape(-1, 2).T  # the last byte is no digit
    length = stops - starts
    if ((length > _DIGITS) | ((data[starts] == ord("0")) & (length > 1))).any():
        return None
    ends_before = np.searchsorted(starts, np.flatnonzero(line_end))
    # np.fromstring takes white space alone for a number.
    numbers = np.fromstring(text, np.int32, sep=" ") if len(starts) else np.zeros(0, np.int32)
    return np.diff(ends_before, prepend=0), numbers
