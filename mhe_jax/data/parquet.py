"""Parquet files by pyarrow, opened with damage told in one line."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from mhe_jax.data.dataset import DataError


def open_parquet(path: str | os.PathLike[str], opened: Any = None, **arguments: Any) -> Any:
    """The `pyarrow.parquet.ParquetFile` of a path, or of what is open under that name; page checksums are verified.

    Raises:
      DataError: naming the path, if it is damaged or missing, or pyarrow is not installed.
    """
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(
            f"{path}: Parquet files are read by pyarrow, which is not installed: "
            "`pip install 'mhe-jax[parquet]'` installs it"
        ) from None
    with told(path, "at its end, where the columns are told"):
        # Strings in dictionaries, page checksums where there are any: damage is told, not read.
        return ParquetFile(path if opened is None else opened, page_checksum_verification=True, **arguments)


@contextlib.contextmanager
def told(path: str | os.PathLike[str], where: str = "as Parquet") -> Iterator[None]:
    """Errors of pyarrow, whose own are ValueErrors and OSErrors, become DataErrors with the file's name."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (ValueError, OSError, MemoryError, NotImplementedError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read {where}: {reason[:300]}") from error
