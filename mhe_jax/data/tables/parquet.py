"""Tables of Parquet files, a row group at a time, by pyarrow."""

import pathlib
from collections.abc import Iterator, Sequence

from mhe_jax.data.dataset import DataError
from mhe_jax.data.parquet import open_parquet, told

_ROWS = 1024  # as Python's values at a time


class ParquetTable:
    """One .parquet; the values of its rows are strings, numbers, truth values, None, or lists of these.

    Raises:
      DataError: if the file is damaged, has a column twice, or pyarrow is not installed.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        with open_parquet(self.path) as file:
            self.names = list(file.schema_arrow.names)
        if len(set(self.names)) < len(self.names):
            raise DataError(f"{path} has two columns of one name: {', '.join(map(repr, self.names))}")

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple]]:
        """A fresh pass, see `Table`; rows are counted from 1.

        Raises:
          DataError: if the file is damaged.
        """
        number = 0
        with open_parquet(self.path) as file:
            batches = file.iter_batches(batch_size=_ROWS, columns=list(columns), use_threads=False)
            while True:
                with told(self.path, f"after row {number}"):
                    batch = next(batches, None)
                    if batch is None:
                        return
                    values = [batch.column(name).to_pylist() for name in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield number, row

    def at(self, number: int) -> str:
        return f"{self.path}: row {number}"
