"""Pictures in columns of tables by number: of Arrow files, mapped into memory, and of Parquet, by row groups."""

import collections
import concurrent.futures
import dataclasses
import functools
import os
import threading
from typing import Any, ClassVar

import numpy as np

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.images.decode import read_bytes
from mhe_jax.data.parquet import open_parquet, told
from mhe_jax.data.stores import RangedFile, is_remote

_MOST_KEPT = 128 << 20  # bytes of decoded row groups that a process keeps; one is kept always


@dataclasses.dataclass(frozen=True)
class TableSource:
    """Rows of tables of pictures; row rows[i] of all files together is picture i.

    starts: int64 [F + 1], the first row of each file, and the number of all.
    image: the column of pictures.
    """

    paths: tuple[str, ...]
    class_names: tuple[str, ...]
    starts: np.ndarray
    image: str
    rows: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def read(self, index: int) -> tuple[bytes, int, str]:
        file, row = self._place(index)
        where = self.where(index)
        try:
            cell = self._picture(file, row)
        except DataError as error:
            raise BadExample(f"{where}: {error}") from error
        if isinstance(cell, dict) and cell["bytes"] is None and cell.get("path"):
            path = self._beside(file, cell["path"], where)
            return read_bytes(path), int(self.labels[index]), path
        data = cell["bytes"] if isinstance(cell, dict) else cell
        if data is None:
            raise BadExample(f"{where}: holds no bytes of a picture")
        return data, int(self.labels[index]), where

    def _beside(self, file: int, name: str, where: str) -> str:
        """The path of a picture that `datasets` has not copied: in the folder of the file, or below."""
        if is_remote(self.paths[file]):
            raise BadExample(f"{where}: holds a path for a picture, which is not read in a store")
        folder = os.path.dirname(self.paths[file])
        path = os.path.normpath(os.path.join(folder, name))
        if not os.path.abspath(path).startswith(os.path.join(os.path.abspath(folder), "")):
            raise BadExample(f"{where}: its path {name!r} leads out of the folder of the file")
        return path

    def _picture(self, file: int, row: int) -> Any:
        """The cell: bytes, None, or {'bytes': ..., 'path': ...} of Hugging Face."""
        raise NotImplementedError

    def where(self, index: int) -> str:
        """The picture in messages; rows are counted from 0."""
        file, row = self._place(index)
        return f"{self.paths[file]}: row {row}"

    def name(self, index: int) -> bytes:
        """What the picture is called, wherever its file lies."""
        file, row = self._place(index)
        return os.fsencode(f"{os.path.basename(self.paths[file])}:{row}")

    def take(self, rows: np.ndarray) -> "TableSource":
        """These pictures alone: places, or a truth value for each."""
        return dataclasses.replace(self, rows=self.rows[rows], labels=self.labels[rows])

    def identity(self) -> tuple:
        return self.class_names, tuple(map(os.path.basename, self.paths)), self.rows, self.labels

    def _place(self, index: int) -> tuple[int, int]:
        row = int(self.rows[index])
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        return file, row - int(self.starts[file])


class ArrowSource(TableSource):
    """Hugging Face's Arrow files: nothing is read but the pages that a picture lies in."""

    @functools.cached_property
    def _columns(self) -> dict[int, tuple[np.ndarray, list[Any]]]:
        return {}

    def _picture(self, file: int, row: int) -> Any:
        if file not in self._columns:
            column = open_arrow(self.paths[file]).column(self.image)
            self._columns[file] = np.cumsum([0, *map(len, column.chunks)]), column.chunks
        starts, chunks = self._columns[file]
        chunk = int(np.searchsorted(starts, row, side="right")) - 1
        return chunks[chunk][row - int(starts[chunk])].as_py()


class ParquetSource(TableSource):
    """Parquet files: a picture costs the decoding of its row group, of which the last ones are kept.

    Threads share what is kept, and none decodes what another is about to have.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()  # of the dictionaries alone

    @functools.cached_property
    def _files(self) -> dict[int, tuple[Any, np.ndarray]]:
        return {}

    @functools.cached_property
    def _kept(self) -> "collections.OrderedDict[tuple[int, int], concurrent.futures.Future[Any]]":
        return collections.OrderedDict()

    def _picture(self, file: int, row: int) -> Any:
        if file not in self._files:
            with opened_parquet(self.paths[file]) as opened:
                metadata = opened.metadata
            counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
            self._files[file] = metadata, np.cumsum([0, *counts])
        starts = self._files[file][1]
        group = int(np.searchsorted(starts, row, side="right")) - 1
        return self._group(file, group)[row - int(starts[group])].as_py()

    def _group(self, file: int, group: int) -> Any:
        """The pictures of a row group, a pyarrow column: its chunks stay, as one array of bytes ends at 2 GiB."""
        place = file, group
        with self._lock:
            kept = self._kept.get(place)
            if kept is None:
                mine = self._kept[place] = concurrent.futures.Future()
            else:
                self._kept.move_to_end(place)
        if kept is not None:
            return kept.result()
        try:
            path = self.paths[file]
            with opened_parquet(path, metadata=self._files[file][0]) as opened, told(path, f"in row group {group}"):
                table = opened.read_row_group(group, columns=[self.image], use_threads=False)
                mine.set_result(table.column(self.image))
        except BaseException as error:
            mine.set_exception(error)
            with self._lock:
                self._kept.pop(place, None)
            raise
        self._forget()
        return mine.result()

    def _forget(self) -> None:
        """Drops row groups that were not asked for lately, above the memory for them."""
        with self._lock:
            ready = {at: one.result().nbytes for at, one in self._kept.items() if one.done() and not one.exception()}
            total = sum(ready.values())
            for place in list(ready)[:-1]:
                if total <= _MOST_KEPT:
                    break
                total -= ready[place]
                del self._kept[place]


def opened_parquet(path: str, **arguments: Any) -> Any:
    """`open_parquet` of a file on a disk or in a store."""
    return open_parquet(path, RangedFile(path).open() if is_remote(path) else None, **arguments)


def open_arrow(path: str) -> Any:
    """The table of an Arrow file, of records or of a stream, as `datasets` writes it; mapped, not read.

    Raises:
      DataError: naming the path, if it is damaged, lies in a store, or pyarrow is not installed.
    """
    if is_remote(path):
        raise DataError(f"{path}: Arrow files are mapped into memory and must lie on a disk; Parquet and tar need not")
    try:
        import pyarrow
    except ImportError:
        raise DataError(
            f"{path}: Arrow files are read by pyarrow, which is not installed: "
            "`pip install 'mhe-jax[parquet]'` installs it"
        ) from None
    with told(path, "as an Arrow file"):
        mapped = pyarrow.memory_map(path)
        begins = mapped.read(6)
        mapped.seek(0)
        reader = pyarrow.ipc.open_file(mapped) if begins == b"ARROW1" else pyarrow.ipc.open_stream(mapped)
        return reader.read_all()
