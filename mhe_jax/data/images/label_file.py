"""A file that says which labels each picture of a folder has: CSV, TSV, JSON lines or Parquet."""

import functools
import os
import pathlib
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.listing import list_pictures, tell_left_out
from mhe_jax.data.lines import json_field, read_json_lines
from mhe_jax.data.tables.columns import Columns, find_labels
from mhe_jax.data.tables.label_cells import Cells
from mhe_jax.data.tables.one_kind import json_labels, require_one_kind
from mhe_jax.data.tables.rows import labels_of_row, named_rows
from mhe_jax.data.tables.table_files import Table, open_tables

# In order of preference; `metadata` is what the Hugging Face hub calls it.
STEMS, ENDINGS = ("labels", "metadata"), (".csv", ".tsv", ".jsonl", ".parquet")
_FILE_COLUMNS = ("file_name", "file", "image", "path")
IGNORED = "ignored"


class Row(NamedTuple):
    """One picture: its path below the folder, its labels, those that are not known, and where the file says so."""

    file: str
    labels: list[Any]
    ignored: list[Any]
    where: str


def find_label_file(folder: pathlib.Path) -> pathlib.Path | None:
    """The labels of a folder's pictures, if a file says them; raises DataError where several do."""
    there = [path for stem in STEMS for ending in ENDINGS if (path := folder / f"{stem}{ending}").is_file()]
    if len(there) > 1:
        raise DataError(f"{folder} holds {' and '.join(path.name for path in there)}: leave one of them")
    return there[0] if there else None


def read_label_file(path: pathlib.Path, asked: Columns) -> dict[bytes, Row]:
    """The rows of a file by their pictures, each of which is there, as every picture has a row.

    Args:
      path: the file; pictures are named by their paths below its folder.
      asked: what the config says of the columns of a table.

    Raises:
      DataError: naming the row, for one that is malformed, or whose picture is not there or has a row already, and for
        labels that are not all strings or all integers; naming a picture without a row.
    """
    pictures, left_out = list_pictures(path.parent)
    tell_left_out(path.parent, left_out)
    there, missing = set(pictures), []
    rows: dict[bytes, Row] = {}
    kinds: set[Any] = set()  # a label or two, by which others are of one kind
    for row in _json_rows(path) if path.suffix == ".jsonl" else _table_rows(path, asked):
        require_one_kind([*row.labels, *row.ignored], kinds, functools.partial(str, row.where))
        kinds.update(row.labels[:1] or row.ignored[:1])
        if both := [label for label in row.ignored if label in row.labels]:
            raise DataError(f"{row.where}: {both[0]!r} is a label and ignored: leave it in one of them")
        file = os.fsencode(posixpath.normpath(row.file)) if row.file else b""
        if file in rows:
            raise DataError(f"{row.where}: the picture {row.file} has a row already, {rows[file].where}")
        rows[file] = row
        if file not in there:
            missing.append(row)
    if missing:
        more = f" ({len(missing)} of {len(rows)} pictures are missing)" if len(missing) > 1 else ""
        raise DataError(f"{missing[0].where}: the picture {missing[0].file!r} is not in {path.parent}{more}")
    if without := sorted(there - rows.keys()):
        raise DataError(
            f"{path}: {len(without)} of {len(there)} pictures beside it have no row, such as "
            f"{os.fsdecode(without[0])!r}: add rows, without labels where there are none, or move them away"
        )
    if not rows:
        raise DataError(f"{path} names no picture")
    return rows


def _json_rows(path: pathlib.Path) -> Iterator[Row]:
    for number, record in read_json_lines(path):
        field = next((name for name in _FILE_COLUMNS if name in record), _FILE_COLUMNS[0])
        file = json_field(record, field, str, path, number)
        ignored = json_labels(record, IGNORED, path, number) if IGNORED in record else []
        yield Row(file, json_labels(record, "labels", path, number), ignored, f"{path}:{number}")


def _table_rows(path: pathlib.Path, asked: Columns) -> Iterator[Row]:
    for table in open_tables(path):
        asked_here = _with_file_column(table, asked)
        labels = find_labels(table, asked_here)
        columns = labels.columns(table, asked_here)
        extra = [IGNORED] if IGNORED in table.names else []
        unknown = labels.cells or Cells(";")
        for number, file, cells in named_rows(table, [*columns, *extra], asked_here):
            where = functools.partial(table.at, number)
            found = labels_of_row(labels, columns, cells[: len(columns)], where)
            ignored = [label for cell in cells[len(columns) :] for label in unknown.labels(cell, where)]
            yield Row(file, found, ignored, where())


def _with_file_column(table: Table, asked: Columns) -> Columns:
    by_name: Mapping[str, str] = {name.casefold(): name for name in table.names}
    column = next((by_name[name] for name in _FILE_COLUMNS if name in by_name), None)
    if column is None:
        raise DataError(
            f"{table.path}: there is no column {_FILE_COLUMNS[0]!r} of pictures' paths (there are: "
            f"{', '.join(map(repr, table.names[:20]))})"
        )
    return Columns(column, asked.label, asked.separator)
