"""Label matrices on disk: the sparse text files of the Extreme Classification Repository, and scipy's .npz.

A sparse text file is a header, `documents labels`, and a line `label:relevance label:relevance ...` per document; a
document without labels is a blank line, and those at the end may be left out. Labels may come in any order and twice.
"""

import itertools
import pathlib
import re
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError, require_plausible
from mhe_jax.data.lines import read_lines

_LINES = 8192  # parsed at a time
_MOST = 2**31 - 1  # documents, and labels
_PAIR = rb"\d++:(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?+\d++)?+"
_PAIRS = re.compile(rb"(?:\s*+" + _PAIR + rb"(?!\S))*+\s*+")


def read_label_matrix(path: pathlib.Path, documents: int | None = None) -> scipy.sparse.csr_matrix:
    """The labels of documents, CSR [N, L]; columns may be in any order and repeated.

    Args:
      path: a .npz, or a text file.
      documents: how many there are, if that is known; a file whose header says otherwise is not read.

    Raises:
      DataError: if the file is damaged, or its body contradicts its header; naming the line of a text file.
    """
    matrix = _read_npz(path, documents) if path.suffix == ".npz" else _read_text(path, documents)
    require_plausible(matrix.shape[1], matrix.nnz, "labels", path)
    return matrix


def load_npz(path: pathlib.Path) -> Any:
    """The matrix of a .npz, unchecked; raises DataError if scipy.sparse.save_npz wrote no such file."""
    try:
        with path.open("rb") as file:
            return scipy.sparse.load_npz(file)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except Exception as error:  # a damaged archive fails in any way
        raise DataError(f"{path} is not a matrix of scipy.sparse.save_npz: {error}") from error


def _read_npz(path: pathlib.Path, documents: int | None) -> scipy.sparse.csr_matrix:
    matrix = load_npz(path)
    try:
        _check(matrix)
        if documents not in (None, matrix.shape[0]):
            raise ValueError(f"it has labels for {matrix.shape[0]} documents, but there are {documents} texts")
        require_plausible(matrix.shape[0], matrix.nnz, "documents", path)
        return scipy.sparse.csr_matrix(matrix)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _check(matrix: Any) -> None:
    """Raises ValueError for a matrix that scipy would convert to another one, or into memory that it does not own."""
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"relevances must be real numbers but are {matrix.dtype}")
    if len(matrix.shape) != 2 or max(matrix.shape) > _MOST:
        raise ValueError(f"the shape is {matrix.shape}; it must be documents and labels, at most {_MOST} of each")
    if hasattr(matrix, "check_format"):  # the others check their indices when they are made
        matrix.check_format(full_check=True)


def _read_text(path: pathlib.Path, documents: int | None) -> scipy.sparse.csr_matrix:
    lines = read_lines(path)
    shape = _shape(path, next(lines, ""))
    if documents not in (None, shape[0]):
        raise DataError(f"{path}:1: the header says {shape[0]} documents, but there are {documents} texts")
    counts, columns, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    first = 2
    while block := list(itertools.islice(lines, _LINES)):
        if first - 2 + len(block) > shape[0]:
            raise DataError(f"{path}:{shape[0] + 2}: the header says {shape[0]} documents, but here is one more line")
        parsed = _parse("\n".join([*block, ""]).encode())
        if parsed is None or parsed[0].max(initial=-1) >= shape[1] or parsed[1].max(initial=0) == np.inf:
            raise _fault(path, first, block, shape[1])
        columns.append(parsed[0].astype(np.int32))
        values.append(parsed[1].astype(np.float32))
        counts.append(np.fromiter((line.count(":") for line in block), np.int64, len(block)))
        first += len(block)
    ends = np.cumsum(np.concatenate(counts))
    require_plausible(shape[0], len(ends), "documents", path)
    indptr = np.concatenate([[0], ends, np.full(shape[0] - len(ends), ends[-1] if len(ends) else 0)])
    return scipy.sparse.csr_matrix((np.concatenate(values), np.concatenate(columns), indptr), shape)


def _parse(data: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels and relevances of all pairs in whole lines; None if there is anything but pairs."""
    pairs = data.count(b":")
    # Mostly one relevance, 1, is that of all labels: without it only integers remain, which are read six times as fast.
    relevance = data[data.find(b":") + 1 :].split(maxsplit=1)[:1]
    if pairs and relevance and _PAIRS.fullmatch(b"0:" + relevance[0]):
        rest = data.replace(b":%b " % relevance[0], b" ").replace(b":%b\n" % relevance[0], b"\n")
        without_label = data.startswith(b":") or b" :" in data or b"\n:" in data
        if not rest.translate(None, b"0123456789 \n") and not without_label:
            labels = np.fromstring(rest, np.int64, sep=" ")
            return (labels, np.full(pairs, float(relevance[0]))) if len(labels) == pairs else None
    if not _PAIRS.fullmatch(data):
        return None
    if not pairs:  # np.fromstring takes white space for a number
        return np.zeros(0, np.int64), np.zeros(0)
    numbers = np.fromstring(data.replace(b":", b" "), np.float64, sep=" ")
    return numbers[::2], numbers[1::2]


def _shape(path: pathlib.Path, header: str) -> tuple[int, int]:
    numbers = header.split()
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise DataError(f"{path}:1: the header must be 'documents labels', two numbers, but is {header[:80]!r}")
    for number in numbers:
        if len(number) > 4000 or int(number) > _MOST:  # Python converts no more digits
            raise DataError(f"{path}:1: the header says {number[:80]}, which is more than {_MOST}")
    return int(numbers[0]), int(numbers[1])


def _fault(path: pathlib.Path, first: int, block: list[str], num_labels: int) -> DataError:
    """What is wrong in lines of which something is, `first` being the number of the first."""
    for number, line in enumerate(block, first):
        for pair in line.encode().split():
            try:
                label, value = pair.split(b":")
                if not re.fullmatch(_PAIR, pair) or not float(value) < np.inf:
                    raise ValueError
            except ValueError:
                return DataError(
                    f"{path}:{number}: {pair.decode()[:80]!r} must be 'label:relevance' with a label from 0 "
                    "and a relevance that is not negative"
                )
            if int(label) >= num_labels:
                return DataError(
                    f"{path}:{number}: label {int(label)}, but the header says {num_labels} labels, counted from 0"
                )
    raise AssertionError(f"{path}: lines {first} to {first + len(block) - 1} cannot be read")
