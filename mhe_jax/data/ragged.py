"""Rows of different lengths, kept end to end in one array, as matrices, and the best entries of each."""

import numpy as np
import scipy.sparse


def pad_rows(values: np.ndarray, starts: np.ndarray, counts: np.ndarray, width: int, fill: int) -> np.ndarray:
    """Row i is `values[starts[i] : starts[i] + counts[i]]`, filled up to `width`: int32 or float32 [N, width].

    Args:
      values: integers or floats [M], the rows end to end; a memory map is read only where it is needed.
      starts: integers [N].
      counts: integers [N], none above `width`.
      width: length of every row.
      fill: what stands behind a row's values.
    """
    columns = np.arange(width)
    taken = columns[None, :] < counts[:, None]
    rows = np.full((len(starts), width), fill, np.float32 if values.dtype.kind == "f" else np.int32)
    rows[taken] = values[(starts[:, None] + columns[None, :])[taken]]
    return rows


def columns_of(
    matrix: scipy.sparse.csr_matrix, rows: np.ndarray, width: int, listed: np.ndarray | None = None
) -> np.ndarray:
    """The first `width` columns of the entries of each row, or of these in the order `listed`, padded with -1.

    Args:
      matrix: CSR [N, L].
      rows: integers [B].
      width: W.
      listed: int32 [nnz], the columns row by row in another order.

    Returns:
      int32 [B, W].
    """
    starts = matrix.indptr[rows]
    counts = np.minimum(matrix.indptr[rows + 1] - starts, width)
    return pad_rows(matrix.indices if listed is None else listed, starts, counts, width, -1)


def values_of(
    matrix: scipy.sparse.csr_matrix, rows: np.ndarray, width: int, values: np.ndarray | None = None
) -> np.ndarray:
    """The values that belong to `columns_of`, float32 [B, W], padded with 0; `values` float [nnz] in another order."""
    starts = matrix.indptr[rows]
    counts = np.minimum(matrix.indptr[rows + 1] - starts, width)
    return pad_rows(
        (matrix.data if values is None else values).astype(np.float32, copy=False), starts, counts, width, 0
    )


def in_order(matrix: scipy.sparse.csr_matrix, listed: np.ndarray) -> np.ndarray:
    """The values of a matrix CSR [N, L] in the order of its columns in `listed`, int [nnz], row by row."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    values = np.empty(matrix.nnz, matrix.data.dtype)
    values[np.lexsort((listed, rows))] = matrix.data[np.lexsort((matrix.indices, rows))]
    return values


def top_of(matrix: scipy.sparse.csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest stored scores of each row, best first, of equal ones the lower label first.

    Returns:
      ids int32 [N, k], filled up with -1, and scores float32 [N, k], filled up with 0.
    """
    num_rows = matrix.shape[0]
    rows = np.repeat(np.arange(num_rows), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    place = np.arange(len(rows)) - matrix.indptr[rows]
    kept = place < k
    ids, scores = np.full((num_rows, k), -1, np.int32), np.zeros((num_rows, k), np.float32)
    ids[rows[kept], place[kept]] = matrix.indices[order][kept]
    scores[rows[kept], place[kept]] = matrix.data[order][kept]
    return ids, scores


def chosen_columns(matrix: scipy.sparse.csr_matrix, listed: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Those of `rows`, int [M], of the columns of a matrix CSR [N, L] that are `listed` row by row in another order."""
    # As values, which go with their rows.
    return scipy.sparse.csr_matrix((listed, matrix.indices, matrix.indptr), matrix.shape)[rows].data


def ones_at(columns: np.ndarray, counts: np.ndarray, width: int) -> scipy.sparse.csr_matrix:
    """CSR float32 [N, width] of ones: `counts` of them in each row, int [N], in `columns` row by row, int [M]."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    return scipy.sparse.csr_matrix((np.ones(len(columns), np.float32), columns, ends), (len(counts), width))
