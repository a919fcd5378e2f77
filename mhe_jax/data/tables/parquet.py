"""Tables of Parquet files, a row group at a time, by pyarrow."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from mhe_jax.data.dataset import DataError

_ROWS = 1024  # as Python's values at a time


class ParquetTable:
    """One .parquet; the values of its rows are strings, numbers, truth values, None, or lists of these.

    Raises:
      DataError: if the file is damaged, has a column twice, or pyarrow is not installed.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        with self._opened() as file:
            self.names = list(file.schema_arrow.names)
        if len(set(self.names)) < len(self.names):
            raise DataError(f"{path} has two columns of one name: {', '.join(map(repr, self.names))}")

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple]]:
        """A fresh pass, see `Table`; rows are counted from 1.

        Raises:
          DataError: if the file is damaged.
        """
        number = 0
        with self._opened() as file:
            batches = file.iter_batches(batch_size=_ROWS, columns=list(columns), use_threads=False)
            while True:
                with self._read(f"after row {number}"):
                    batch = next(batches, None)
                    if batch is None:
                        return
                    values = [batch.column(name).to_pylist() for name in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield number, row

    def at(self, number: int) -> str:
        return f"{self.path}: row {number}"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise DataError(
                f"{self.path}: Parquet files are read by pyarrow, which is not installed: "
                "`pip install 'mhe-jax[parquet]'` installs it"
            ) from None
        with self._read("at its end, where the columns are told"):
            # Strings in dictionaries, page checksums where there are any: damage is told, not read.
            file = ParquetFile(self.path, page_checksum_verification=True)
        with file:
            yield file

    @contextlib.contextmanager
    def _read(self, where: str) -> Iterator[None]:
        """Errors of pyarrow, whose own are ValueErrors and OSErrors, with the file's name."""
        try:
            yield
        except FileNotFoundError as error:
            raise DataError(f"{self.path} does not exist") from error
        except (ValueError, OSError, MemoryError, NotImplementedError, KeyError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{self.path} cannot be read {where}: {reason[:300]}") from error
