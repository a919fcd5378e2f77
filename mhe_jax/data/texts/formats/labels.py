"""Labels of documents as sparse rows: gathered row by row, brought into one form, and checked against the texts."""

import array
import collections
import functools
import itertools
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan, read_lines
from mhe_jax.data.multi_hot import ListedRows, one_width, read_multi_hot
from mhe_jax.data.texts.corpus import Corpora, Corpus


class LabelRows:
    """The labels of one document after the other: 4 bytes each, and 4 more where their relevance is given."""

    def __init__(self):
        self._ends = array.array("q", [0])
        self._columns = array.array("i")
        self._values = array.array("f")

    def add(self, columns: Iterable[int], values: Iterable[float] = ()) -> None:
        """The next document's labels, and their relevance: for all documents, or for none."""
        self._columns.extend(columns)
        self._values.extend(values)
        self._ends.append(len(self._columns))

    def extend(self, counts: np.ndarray, columns: np.ndarray) -> None:
        """The labels of the next documents end to end, int32, and how many each one has; all of relevance 1."""
        self._ends.frombytes((self._ends[-1] + np.cumsum(counts, dtype=np.int64)).tobytes())
        self._columns.frombytes(columns.astype(np.int32, copy=False).tobytes())

    @property
    def counts(self) -> np.ndarray:
        """How many labels each document has, those listed again included: int64 [N]."""
        return np.diff(np.array(self._ends))

    @property
    def columns(self) -> np.ndarray:
        """The labels of all documents end to end, int32."""
        return np.array(self._columns)

    def matrix(self, num_labels: int, rank: np.ndarray | None = None) -> scipy.sparse.csr_matrix:
        """CSR [N, num_labels], not yet `canonical`; `rank` renumbers the labels."""
        columns = self.columns
        if rank is not None:
            columns = rank[columns]
        values = np.array(self._values) if self._values else np.ones(len(columns), np.float32)
        indptr = np.array(self._ends)
        return scipy.sparse.csr_matrix((values, columns, indptr), (len(indptr) - 1, num_labels))


def multi_hot_rows(
    labels: Sequence[Any], rank: np.ndarray, splits: Sequence[LabelRows], files: Sequence[pathlib.Path]
) -> tuple[tuple[str, ...], list[LabelRows]] | None:
    """The labels '0' .. 'L - 1' and the rows of each file, numbered so, if those to train on are noughts and ones.

    Args:
      labels: all that occur; their place is what `rank` maps the numbers in the rows to.
      splits: the rows of each file, first those to train on.
      files: where they come from, for messages.

    Raises:
      DataError: see `read_multi_hot`.
    """
    if not one_width(splits[0].counts):
        return None
    listed = [
        ListedRows(rows.counts, rank[rows.columns], functools.partial(_document, file))
        for rows, file in zip(splits, files, strict=True)
    ]
    multi_hot = read_multi_hot(labels, listed)
    if multi_hot is None:
        return None
    width, found = multi_hot
    numbered = [LabelRows() for _ in found]
    for rows, (counts, columns) in zip(numbered, found, strict=True):
        rows.extend(counts, columns)
    return tuple(map(str, range(width))), numbered


def _document(file: pathlib.Path, row: int) -> str:
    return f"{file}: document {row + 1}"


class LabelNumbers(collections.defaultdict):
    """Numbers labels as they first come; `ranked` tells their final order."""

    def __init__(self):
        super().__init__(itertools.count().__next__)

    def ranked(self) -> tuple[list[Any], np.ndarray]:
        """The labels in order, strings lexicographically by code point, and int32 [L], from first number to rank."""
        order: list[Any] = sorted(self)
        rank = np.empty(len(order), np.int32)
        rank[np.fromiter(map(self.__getitem__, order), np.int64, len(order))] = np.arange(len(order))
        return order, rank


def canonical(matrix: Any) -> tuple[scipy.sparse.csr_matrix, int, np.ndarray | None]:
    """A sparse matrix of relevances in one form.

    Of a label that a document lists several times the largest relevance stays, at the first of its places; one of
    relevance 0 is no label.

    Returns:
      CSR float32 with sorted columns; how many entries were repeated; and the columns row by row in the order in which
      they were given, int32 [nnz], or None where that is ascending.

    Raises:
      ValueError: for a relevance that is negative or not finite, or indices that do not fit the shape.
    """
    csr = scipy.sparse.csr_matrix(matrix, dtype=np.float32)
    csr.check_format(full_check=True)
    if not ((csr.data >= 0) & (csr.data < np.inf)).all():
        raise ValueError("a relevance is negative or not finite")
    given, places = (None, None) if csr.has_sorted_indices else (csr.indices.copy(), _sorted_places(csr))
    csr.sort_indices()
    first = np.ones(csr.nnz, bool)
    first[1:] = csr.indices[1:] != csr.indices[:-1]
    first[csr.indptr[:-1][csr.indptr[:-1] < csr.nnz]] = True  # where a row starts
    repeated = csr.nnz - int(first.sum())
    if repeated:
        starts = np.flatnonzero(first)
        places = None if places is None else np.minimum.reduceat(places, starts)
        indptr = np.concatenate([[0], np.cumsum(first)])[csr.indptr]
        csr = scipy.sparse.csr_matrix(
            (np.maximum.reduceat(csr.data, starts), csr.indices[starts], indptr), csr.shape, copy=False
        )
    kept = csr.data != 0
    csr.eliminate_zeros()
    if given is None or places is None:
        return csr, repeated, None
    # Places ascend from row to row, so that sorting them all sorts each row's.
    listed = given[np.sort(places[kept])]
    return csr, repeated, None if np.array_equal(listed, csr.indices) else listed


def _sorted_places(csr: scipy.sparse.csr_matrix) -> np.ndarray:
    """For each entry, once columns are sorted within their rows, its place before: int64 [nnz]."""
    places = scipy.sparse.csr_matrix((np.arange(csr.nnz), csr.indices.copy(), csr.indptr), csr.shape)
    places.sort_indices()
    return places.data


def make_corpus(
    texts: Callable[[], Iterator[str]],
    scan: TextScan,
    labels: scipy.sparse.csr_matrix,
    files: tuple[pathlib.Path, pathlib.Path],
    filtered: pathlib.Path | None = None,
) -> tuple[Corpus, str]:
    """A split, and in words what is unusual about it.

    Args:
      texts: a fresh pass over the texts.
      scan: what such a pass told.
      labels: as `LabelRows.matrix` or a file gives them.
      files: where texts and labels come from; they may be the same.
      filtered: file of the labels that evaluation drops, lines of `document label`, both counted from 0.

    Raises:
      DataError: if there are more or fewer texts than rows of labels, or a file holds impossible values.
    """
    if scan.documents != labels.shape[0]:
        raise DataError(f"{files[0]} has {scan.documents} texts but {files[1]} has labels for {labels.shape[0]}")
    try:
        matrix, repeated, listed = canonical(labels)
    except ValueError as error:
        raise DataError(f"{files[1]}: {error}") from error
    if 2 * repeated > labels.nnz:
        warnings.warn(
            f"{files[1]}: {repeated} of {labels.nnz} labels are listed again in their document; "
            "are they noughts and ones, or counts, where lists of labels belong?",
            stacklevel=2,
        )
    found = {
        "documents": scan.documents,
        "empty texts": scan.empty,
        "documents without labels": int((np.diff(matrix.indptr) == 0).sum()),
        "labels listed again": repeated,
    }
    notes = ", ".join(f"{count} {what}" for what, count in found.items() if count or what == "documents")
    pairs = read_pairs(filtered, matrix.shape)
    return Corpus(texts, matrix, str(files[0]), pairs, scan.fingerprint, listed), notes


def as_corpora(found: Mapping[str, tuple[Corpus, str]], names: tuple[str, ...], notes: str = "") -> Corpora:
    """A data set of the splits 'train' and, if they are there, 'test' and 'validation', as `make_corpus` gives them.

    Args:
      found: by split.
      names: of the labels.
      notes: what is unusual about all of them, with what separates it from the words before.
    """
    told = "; ".join(f"{'training' if split == 'train' else split}: {words}" for split, (_, words) in found.items())
    test, valid = (found[split][0] if split in found else None for split in ("test", "validation"))
    return Corpora(found["train"][0], test, names, told + notes, valid)


def read_pairs(path: pathlib.Path | None, shape: tuple[int, int]) -> scipy.sparse.csr_matrix:
    """CSR bool of the given shape from lines of `document label`; no file gives an empty one. Raises DataError."""
    pairs = array.array("q")
    for number, line in enumerate(read_lines(path), 1) if path else ():
        if not line.strip():
            continue
        try:
            document, label = map(int, line.split())
        except ValueError:
            raise DataError(f"{path}:{number}: a line must be 'document label' but is {line[:80]!r}") from None
        if not (0 <= document < shape[0] and 0 <= label < shape[1]):
            raise DataError(
                f"{path}:{number}: document {document}, label {label}, "
                f"but there are {shape[0]} documents and {shape[1]} labels, both counted from 0"
            )
        pairs.extend((document, label))
    index = np.array(pairs).reshape(-1, 2)
    coo = scipy.sparse.coo_matrix((np.ones(len(index), bool), index.T), shape)
    filtered = scipy.sparse.csr_matrix(coo)
    filtered.sort_indices()
    return filtered
