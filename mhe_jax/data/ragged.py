"""Rows of different lengths, kept end to end in one array, as matrices."""

import numpy as np


def pad_rows(values: np.ndarray, starts: np.ndarray, counts: np.ndarray, width: int, fill: int) -> np.ndarray:
    """Row i is `values[starts[i] : starts[i] + counts[i]]`, filled up to `width`: int32 [N, width].

    Args:
      values: int32 [M], the rows end to end; a memory map is read only where it is needed.
      starts: integers [N].
      counts: integers [N], none above `width`.
      width: length of every row.
      fill: what stands behind a row's values.
    """
    columns = np.arange(width)
    taken = columns[None, :] < counts[:, None]
    rows = np.full((len(starts), width), fill, np.int32)
    rows[taken] = values[(starts[:, None] + columns[None, :])[taken]]
    return rows
