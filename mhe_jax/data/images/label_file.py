"""A file that says which labels each picture of a folder has: CSV, TSV, JSON lines or Parquet."""

import dataclasses
import functools
import os
import pathlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.listing import list_pictures, tell_left_out
from mhe_jax.data.lines import json_field, read_json_lines
from mhe_jax.data.tables.columns import Columns, Labels, find_labels
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


@dataclasses.dataclass(frozen=True)
class LabelFile:
    """What a file says.

    rows: by their pictures, each of which is there, as every picture has a row.
    columns: how a table holds labels; None of JSON lines.
    layout: the same for people.
    """

    rows: dict[bytes, Row]
    columns: Labels | None
    layout: str

    @property
    def ones(self) -> tuple[str, ...]:
        """The columns of noughts and ones, each of which is a label."""
        return () if self.columns is None else self.columns.ones


def find_label_file(folder: pathlib.Path) -> pathlib.Path | None:
    """The labels of a folder's pictures, if a file says them; raises DataError where several do."""
    there = [path for stem in STEMS for ending in ENDINGS if (path := folder / f"{stem}{ending}").is_file()]
    if len(there) > 1:
        raise DataError(f"{folder} holds {' and '.join(path.name for path in there)}: leave one of them")
    return there[0] if there else None


def read_label_file(path: pathlib.Path, asked: Columns, columns: Labels | None = None) -> LabelFile:
    """Reads a file of labels.

    Args:
      path: the file; pictures are named by their paths below its folder.
      asked: what the config says of the columns of a table.
      columns: how the table of the training pictures holds labels, which those of other splits do, too; None finds out.

    Raises:
      DataError: naming the row, for one that is malformed, or whose picture is not there or has a row already, and for
        labels that are not all strings or all integers; naming a picture without a row.
    """
    pictures, left_out = list_pictures(path.parent)
    tell_left_out(path.parent, left_out)
    there, missing = set(pictures), []
    found: dict[bytes, Row] = {}
    kinds: set[Any] = set()  # a label or two, by which others are of one kind
    if path.suffix == ".jsonl":
        columns, layout, rows = None, f"{path.name}; labels: 'labels'", _json_rows(path)
    else:
        tables = open_tables(path)
        columns = columns or _find_labels(tables[0], asked)
        told = columns.told(columns.columns(tables[0], _with_file_column(tables[0], asked)))
        layout, rows = f"{path.name}; {told}", _table_rows(tables, columns, asked)
    for row in rows:
        require_one_kind([*row.labels, *row.ignored], kinds, functools.partial(str, row.where))
        kinds.update(row.labels[:1] or row.ignored[:1])
        file = os.fsencode(posixpath.normpath(row.file)) if row.file else b""
        if file in found:
            raise DataError(f"{row.where}: the picture {row.file} has a row already, {found[file].where}")
        found[file] = row
        if file not in there:
            missing.append(row)
    if missing:
        more = f" ({len(missing)} of {len(found)} pictures are missing)" if len(missing) > 1 else ""
        raise DataError(f"{missing[0].where}: the picture {missing[0].file!r} is not in {path.parent}{more}")
    if without := sorted(there - found.keys()):
        raise DataError(
            f"{path}: {len(without)} of {len(there)} pictures beside it have no row, such as "
            f"{os.fsdecode(without[0])!r}: add rows, without labels where there are none, or move them away"
        )
    if not found:
        raise DataError(f"{path} names no picture")
    return LabelFile(found, columns, layout)


def _json_rows(path: pathlib.Path) -> Iterator[Row]:
    for number, record in read_json_lines(path):
        field = next((name for name in _FILE_COLUMNS if name in record), _FILE_COLUMNS[0])
        file = json_field(record, field, str, path, number)
        ignored = json_labels(record, IGNORED, path, number) if IGNORED in record else []
        yield Row(file, json_labels(record, "labels", path, number), ignored, f"{path}:{number}")


def _find_labels(table: Table, asked: Columns) -> Labels:
    here = _with_file_column(table, asked)
    others = [here.text, IGNORED] if IGNORED in table.names else [here.text]
    return find_labels(table, dataclasses.replace(here, text=",".join(others)))


def _table_rows(tables: Sequence[Table], labels: Labels, asked: Columns) -> Iterator[Row]:
    for table in tables:
        asked_here = _with_file_column(table, asked)
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
