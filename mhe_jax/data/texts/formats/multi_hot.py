"""Rows of noughts and ones, one for each label, in place of lists of labels: 0 0 1 0 is label 2 of four.

Taken for lists they would be a data set of two labels, '0' and '1', that every document has: an exact answer to a
question that nobody asked.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mhe_jax.data.texts.formats.labels import LabelRows

_TRUTHS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def read_multi_hot(
    labels: Sequence[Any], rank: np.ndarray, splits: Sequence[LabelRows]
) -> tuple[tuple[str, ...], list[LabelRows]] | None:
    """The labels that are set in each row, if the rows of all splits are noughts and ones.

    They are where nothing but 0 and 1 occurs (or 0.0 and 1.0, or truth values), all rows have one length of two or
    more, and some row has one of them twice, as no list of labels has.

    Args:
      labels: all that occur; their place is what `rank` maps the numbers in the rows to.
      splits: the rows of each file.

    Returns:
      The labels '0' .. 'L - 1' and the rows of each file, numbered so; None if these are lists of labels.
    """
    if not labels or any(str(label).lower() not in _TRUTHS for label in labels[: len(_TRUTHS) + 1]):
        return None
    counts = np.concatenate([rows.counts for rows in splits])
    width = int(counts.max(initial=0))
    if width < 2 or (counts != width).any():
        return None
    truths = np.array([_TRUTHS[str(label).lower()] for label in labels])
    tables = [truths[rank[rows.columns]].reshape(-1, width) for rows in splits]
    if width == 2 and all((table.sum(axis=1) == 1).all() for table in tables):
        return None
    found = []
    for table in tables:
        found.append(LabelRows())
        found[-1].extend(table.sum(axis=1), np.nonzero(table)[1])
    return tuple(map(str, range(width))), found
