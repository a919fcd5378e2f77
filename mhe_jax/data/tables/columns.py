"""Which columns of a table are the text and the labels, by their names, by their first rows, or as a config says."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence

from mhe_jax.data.dataset import DataError
from mhe_jax.data.tables.label_cells import Cells, looks_like_ones
from mhe_jax.data.tables.table_files import Table

_TEXTS = ("title", "text")
_LABELS = re.compile(r"labels?[ _]?\d*")
_SAMPLE = 1000  # rows that are looked at


@dataclasses.dataclass(frozen=True)
class Columns:
    """What a config says of a table's columns, the fields `text_column`, `label_column` and `label_separator`.

    text, label: names, separated by commas; empty: found by the usual names.
    separator: what separates labels within one cell; empty: found out.
    """

    text: str = ""
    label: str = ""
    separator: str = ""

    def fields(self) -> Mapping[str, str]:
        """The values of those that are set, by the names that they have in a config."""
        named = {"text_column": self.text, "label_column": self.label, "label_separator": self.separator}
        return {name: value for name, value in named.items() if value}


USUAL = Columns()


def text_columns(table: Table, asked: Columns) -> list[str]:
    """The columns that make a document's text, joined by spaces: `text`, after `title` where there is one.

    Raises:
      DataError: if there are none.
    """
    if asked.text:
        return _asked(table, asked.text, "text_column")
    by_name = {name.casefold(): name for name in table.names}
    found = [by_name[name] for name in _TEXTS if name in by_name]
    if not found or found == [by_name.get("title")]:
        raise DataError(
            f"{table.path}: there is no column 'text': name the one to read in config.data.text_column; "
            f"{_there_are(table)}"
        )
    return found


@dataclasses.dataclass(frozen=True)
class Labels:
    """How a data set says which labels a document has, found out from its training table.

    cells: how a cell holds labels; None: the columns are labels, and hold noughts and ones.
    ones: the names of these columns.
    """

    cells: Cells | None
    ones: tuple[str, ...] = ()

    def columns(self, table: Table, asked: Columns) -> list[str]:
        """The columns of another table that hold labels; none where its documents have no labels.

        Raises:
          DataError: if some of them are there and others are not.
        """
        wanted = self.ones if self.cells is None else _listed(asked.label)
        if not wanted:
            return _usual(table)
        there = [name for name in wanted if name in table.names]
        if there and len(there) < len(wanted):
            lost = next(name for name in wanted if name not in there)
            raise DataError(f"{table.path}: there is no column {lost!r}, which holds labels in other files")
        return there

    def told(self, columns: Sequence[str]) -> str:
        """The same for people."""
        if self.cells is None:
            return f"labels: {len(self.ones)} columns of noughts and ones"
        return f"labels: {', '.join(map(repr, columns))}, {self.cells.told()}"


def find_labels(table: Table, asked: Columns) -> Labels:
    """Looks at the first rows of a training table.

    Labels are in the columns that are asked for, or else in `label`, `labels`, `label_1`, `label_2` and the like, or
    else, if two or more of the other columns hold noughts and ones alone, these are the labels.

    Raises:
      DataError: if there are none, or what separates labels cannot be told.
    """
    names = _asked(table, asked.label, "label_column") if asked.label else _usual(table)
    others = [name for name in table.names if name not in text_columns(table, asked)]
    looked_at = names or others
    rows = [values for _, values in itertools.islice(table.rows(looked_at), _SAMPLE)]
    columns = dict(zip(looked_at, zip(*rows, strict=True), strict=False)) if rows else {}
    ones = tuple(name for name, values in columns.items() if looks_like_ones(values))
    if len(ones) > 1 and (not names or len(ones) == len(names)):
        if asked.separator:
            raise DataError(
                f"config.data.label_separator is {asked.separator!r}, but {table.path} has columns of noughts and "
                f"ones as labels: {', '.join(map(repr, ones[:9]))}"
            )
        return Labels(None, ones)
    if not names:
        raise DataError(
            f"{table.path}: there is no column 'label' or 'labels', and no two columns of noughts and ones: name "
            f"those of labels in config.data.label_column; {_there_are(table)}"
        )
    sample = [value for values in columns.values() for value in values]
    return Labels(Cells.found(sample, asked.separator, table.path))


def _usual(table: Table) -> list[str]:
    return [name for name in table.names if _LABELS.fullmatch(name.casefold())]


def _asked(table: Table, names: str, field: str) -> list[str]:
    wanted = _listed(names)
    for name in wanted:
        if name not in table.names:
            raise DataError(
                f"{table.path}: config.data.{field} is {names!r}, but there is no such column; {_there_are(table)}"
            )
    return wanted


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _there_are(table: Table) -> str:
    names = [repr(name[:40]) for name in table.names[:20]]
    return f"its columns are {', '.join(names)}{', ...' if len(table.names) > 20 else ''}"
