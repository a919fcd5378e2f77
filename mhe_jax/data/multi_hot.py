"""Rows of noughts and ones, one for each label, in place of lists of labels: 0 0 1 0 is label 2 of four.

Taken for lists they would be a data set of two labels, '0' and '1', that every example has: an exact answer to a
question that nobody asked.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mhe_jax.data.dataset import DataError

_TRUTHS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}
_NONE = -1


@dataclasses.dataclass(frozen=True)
class ListedRows:
    """What the rows of a split list.

    counts: how much each row lists, int64 [N].
    columns: all of it end to end, as places in the sequence of labels, int [M].
    at: where a row, counted from 0, is, for messages.
    """

    counts: np.ndarray
    columns: np.ndarray
    at: Callable[[int], str]


def one_width(counts: np.ndarray) -> int:
    """The length, two or more, of all rows that are not empty; 0 if they have no such length."""
    width = int(counts.max(initial=0))
    return width if width > 1 and ((counts == 0) | (counts == width)).all() else 0


def read_multi_hot(
    labels: Sequence[Any], splits: Sequence[ListedRows]
) -> tuple[int, list[tuple[np.ndarray, np.ndarray]]] | None:
    """The labels that are set in each row, if the rows to train on, the first of `splits`, are noughts and ones.

    They are where nothing but 0 and 1 occurs (or 0.0 and 1.0, or truth values), all rows have one length of two or
    more, and some row has one of them twice, as no list of labels has. An empty row says nothing, and has no labels.

    Args:
      labels: all that occur.
      splits: the rows of each file.

    Returns:
      The number of labels, and of each split how many labels each row has and all of them end to end; None if these
      are lists of labels.

    Raises:
      DataError: naming the row of another split that is no such row.
    """
    train = splits[0]
    width = one_width(train.counts)
    if not width or any(str(labels[column]).lower() not in _TRUTHS for column in train.columns[:width]):
        return None
    values = np.array([_TRUTHS.get(str(label).lower(), _NONE) for label in labels], np.int8)
    found = [values[split.columns] for split in splits]
    if (found[0] == _NONE).any():
        return None
    if width == 2 and not any(map(_has_one_twice, splits, found)):
        return None
    return width, [_set_in(split, truths, width) for split, truths in zip(splits, found, strict=True)]


def _has_one_twice(split: ListedRows, truths: np.ndarray) -> bool:
    """Whether some of the rows, of two noughts or ones each, has two equal ones."""
    if one_width(split.counts) != 2 or (truths == _NONE).any():
        return False
    return bool((truths.reshape(-1, 2).sum(axis=1) != 1).any())


def _set_in(split: ListedRows, truths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """How many labels are set in each row, and all of them end to end."""
    there = split.counts > 0
    other = there & (split.counts != width)
    other[np.repeat(np.arange(len(other)), split.counts)[truths == _NONE]] = True
    if other.any():
        row = int(other.argmax())
        raise DataError(
            f"{split.at(row)} is no row of {width} noughts and ones, as the rows to train on are: write all in one way"
        )
    table = truths.reshape(-1, width)
    counts = np.zeros(len(there), np.int64)
    counts[there] = table.sum(axis=1)
    return counts, np.nonzero(table)[1]
