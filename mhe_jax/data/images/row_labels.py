"""The labels that files give to pictures, as the ids of all splits together."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.label_file import LabelFile, Row
from mhe_jax.data.many_labels import ManyLabels
from mhe_jax.data.multi_hot import ListedRows, one_width, read_multi_hot
from mhe_jax.data.ragged import ones_at


def label_matrices(splits: Mapping[str, LabelFile]) -> tuple[tuple[str, ...], dict[str, ManyLabels], str]:
    """The names of the labels of all splits in order, the labels of each split, and in words how they are told.

    Args:
      splits: the files, that of the pictures to train on first.

    Raises:
      DataError: for labels of several kinds, or for one that a picture has and that is ignored of it.
    """
    rows = {name: list(file.rows.values()) for name, file in splits.items()}
    train = next(iter(splits.values()))
    occurring = {label for some in rows.values() for row in some for label in (*row.labels, *row.ignored)}
    occurring.update(train.ones)
    kinds = {type(label) for label in occurring}
    if len(kinds) > 1:
        raise DataError("labels are strings in some files and integers in others: write all in one way")
    order = sorted(occurring)
    if (multi_hot := _multi_hot(order, rows)) is not None:
        width, found = multi_hot
        names = tuple(map(str, range(width)))
        return names, found, f"{train.layout}; these are noughts and ones, for {width} labels"
    if kinds - {str, int}:
        raise DataError(
            f"labels are like {order[0]!r}; they must be strings or integers, or columns of noughts and ones, or as "
            "many of these in every row"
        )
    places = {label: place for place, label in enumerate(order)}
    found = {}
    for name, some in rows.items():
        for row in some:
            if both := [label for label in row.ignored if label in row.labels]:
                raise DataError(f"{row.where}: {both[0]!r} is a label and ignored: leave it in one of them")
        ignored = _csr([row.ignored for row in some], places)
        found[name] = ManyLabels(_csr([row.labels for row in some], places), ignored if ignored.nnz else None)
    return tuple(map(str, order)), found, train.layout


def _csr(rows: Sequence[list[Any]], places: Mapping[Any, int]) -> scipy.sparse.csr_matrix:
    columns = [sorted({places[label] for label in row}) for row in rows]
    flat = np.array([column for row in columns for column in row], np.int32)
    return ones_at(flat, np.array([len(row) for row in columns], np.int64), len(places))


def _multi_hot(order: Sequence[Any], splits: Mapping[str, list[Row]]) -> tuple[int, dict[str, ManyLabels]] | None:
    """The number of labels and those of each split, if the rows to train on are noughts and ones."""
    counts = {name: np.array([len(row.labels) for row in rows]) for name, rows in splits.items()}
    if not one_width(next(iter(counts.values()))):
        return None
    places = {label: place for place, label in enumerate(order)}
    multi_hot = read_multi_hot(
        order,
        [
            ListedRows(
                counts[name],
                np.array([places[label] for row in rows for label in row.labels], np.int32),
                functools.partial(_labels_of, rows),
            )
            for name, rows in splits.items()
        ],
    )
    if multi_hot is None:
        return None
    if row := next((row for rows in splits.values() for row in rows if row.ignored), None):
        raise DataError(f"{row.where}: 'ignored' stands beside rows of noughts and ones: write lists of labels")
    width, found = multi_hot
    matrices = (ones_at(columns, set_in, width) for set_in, columns in found)
    return width, dict(zip(splits, map(ManyLabels, matrices), strict=True))


def _labels_of(rows: Sequence[Row], number: int) -> str:
    return f"{rows[number].where}: 'labels'"
