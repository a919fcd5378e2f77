"""Rows of sparse features beside their labels: brought into one form, checked against each other, and cut to length."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.ragged import chosen_columns, pad_rows
from mhe_jax.data.texts import buckets


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of one split.

    features: CSR float32 [N, V], columns sorted and none repeated, no stored 0. A row may be empty.
    labels: CSR float32 [N, L], likewise; the values are the labels' relevance.
    source: file names, for messages.
    filtered: CSR [N, L], labels that evaluation drops from a row's ranking, if there are any.
    listed: int32 [nnz], the columns of `labels` row by row in the order of the files; None for that of `labels`.
    """

    features: scipy.sparse.csr_matrix
    labels: scipy.sparse.csr_matrix
    source: str
    filtered: scipy.sparse.csr_matrix | None = None
    listed: np.ndarray | None = None

    def choose(self, index: np.ndarray) -> "Rows":
        """The rows `index`, integers, in the order of this split."""
        index = np.sort(index)
        filtered = None if self.filtered is None else self.filtered[index]
        listed = None if self.listed is None else chosen_columns(self.labels, self.listed, index)
        return Rows(self.features[index], self.labels[index], self.source, filtered, listed)


@dataclasses.dataclass(frozen=True)
class RowSets:
    """A data set of rows.

    label_names: one for each of the L columns of all splits.
    layout: one line that says what was found where.
    counted: CSR [M, L], the labels by which propensities are reckoned: of all training rows, those held out included.
    test, valid: rows that are evaluated, and rows that were set apart to choose the best checkpoint, if there are such.
    """

    train: Rows
    label_names: tuple[str, ...]
    layout: str
    counted: scipy.sparse.csr_matrix
    test: Rows | None = None
    valid: Rows | None = None


def canonical_features(matrix: Any, source: str) -> scipy.sparse.csr_matrix:
    """A sparse matrix of features in one form, CSR float32 [N, V] with sorted columns and no stored 0.

    Raises:
      DataError: naming the row whose features are not finite, repeated, or outside 0 .. V-1.
    """
    csr = scipy.sparse.csr_matrix(matrix, dtype=np.float32)
    try:
        csr.check_format(full_check=True)
    except ValueError as error:
        raise DataError(f"{source} is no sparse matrix: {error}") from error
    bad = np.flatnonzero(~np.isfinite(csr.data))
    if len(bad):
        row, column = _place(csr, bad[0])
        raise DataError(f"{source}: row {row} has a value of feature {column} that is not a finite float32 number")
    csr.sort_indices()
    repeated = np.flatnonzero((np.diff(csr.indices) == 0) & (np.diff(_row_numbers(csr)) == 0))
    if len(repeated):
        row, column = _place(csr, repeated[0])
        raise DataError(f"{source}: row {row} has feature {column} twice")
    csr.eliminate_zeros()
    return csr


def longest(features: scipy.sparse.csr_matrix, most: int) -> tuple[scipy.sparse.csr_matrix, int]:
    """Rows with at most `most` features, those of the largest magnitude, the lower number first of equals.

    Returns:
      CSR [N, V], and how many rows lost some.
    """
    counts = np.diff(features.indptr)
    long = np.flatnonzero(counts > most)
    if not len(long):
        return features, 0
    kept = np.ones(features.nnz, bool)
    for row in long:
        start, end = features.indptr[row : row + 2]
        order = np.argsort(-np.abs(features.data[start:end]), kind="stable")
        kept[start + order[most:]] = False
    indptr = np.concatenate([[0], np.cumsum(np.minimum(counts, most))])
    return scipy.sparse.csr_matrix((features.data[kept], features.indices[kept], indptr), features.shape), len(long)


def padded(features: scipy.sparse.csr_matrix, widths: Sequence[int]) -> dict[str, np.ndarray]:
    """Rows of features CSR [N, V] as a bag takes them: 'feature_ids' int32 and 'feature_values' float32 [N, W].

    W is the smallest of `widths`, ascending, that holds the longest row; of one that no width holds the features of
    the largest magnitude are kept. A padded place has feature 0 of value 0, which adds nothing to a weighted sum.
    """
    cut, _ = longest(features, widths[-1])
    starts, counts = cut.indptr[:-1], np.diff(cut.indptr)
    width = int(buckets.fit(tuple(widths), counts.max(initial=1)))
    return {
        "feature_ids": pad_rows(cut.indices, starts, counts, width, 0),
        "feature_values": pad_rows(cut.data, starts, counts, width, 0),
    }


def _row_numbers(csr: scipy.sparse.csr_matrix) -> np.ndarray:
    return np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))


def _place(csr: scipy.sparse.csr_matrix, entry: int) -> tuple[int, int]:
    """Row and column of a stored value."""
    return int(np.searchsorted(csr.indptr, entry, side="right")) - 1, int(csr.indices[entry])
