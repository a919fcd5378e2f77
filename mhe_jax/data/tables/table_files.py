"""What a table is, wherever it lies: rows of named columns, read one after the other."""

import csv
import itertools
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import read_lines
from mhe_jax.data.tables.parquet import ParquetTable

_LONGEST = 64 << 20  # characters of a field; the csv module's own limit is 128 KiB
_SHARD = re.compile(r"(.*-)(\d{5})(-of-)(\d{5})(\.\w+)")


class Table(Protocol):
    """One file of rows; path: where it lies; names: its columns."""

    path: pathlib.Path
    names: list[str]

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        """A fresh pass: the number of each row in messages, and its values in these columns."""

    def at(self, number: int) -> str:
        """Where a row is, for messages."""


class CsvTable:
    """A .csv or .tsv, or its .gz: a header line, and quotes as RFC 4180 has them, with newlines between them.

    Fields end at tabs in a .tsv; in a .csv at commas, semicolons or tabs, whichever make most columns of the header.

    Raises:
      DataError: if the file cannot be read, has no header, or a column twice.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        choices = "\t" if path.name.removesuffix(".gz").endswith(".tsv") else ",;\t"
        # With another delimiter than the file's a header may be malformed; its rows are read strictly.
        headers = {choice: next(self._records(choice, strict=False), (1, []))[1] for choice in choices}
        self._delimiter = max(choices, key=lambda choice: len(headers[choice]))
        self.names = [name.strip() for name in headers[self._delimiter]]
        if not self.names:
            raise DataError(f"{path} is empty: its first line must name the columns")
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise DataError(f"{path}:1: there are two columns {twice!r}; a name must be that of one column")

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """A fresh pass, see `Table`; a number is that of the line where a row begins.

        Raises:
          DataError: if the file cannot be read, or a row has other columns than the header.
        """
        places = [self.names.index(name) for name in columns]
        for number, fields in itertools.islice(self._records(self._delimiter), 1, None):
            if len(fields) != len(self.names):
                raise DataError(
                    f"{self.path}:{number}: the row has {len(fields)} fields but the header {len(self.names)}; one "
                    'that holds a separator, a quote or a newline must stand in quotes, and "" is a quote in it'
                )
            yield number, [fields[place] for place in places]

    def at(self, number: int) -> str:
        return f"{self.path}:{number}"

    def _records(self, delimiter: str, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
        """The line where each record begins, the header's included, and its fields; blank lines are passed over."""
        # The limit is one of the whole process, which others may have raised further.
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
        reader = csv.reader(read_lines(self.path, ends=True), delimiter=delimiter, strict=strict)
        begins = 1
        try:
            for fields in reader:
                if fields:
                    yield begins, fields
                begins = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{self.path}:{begins}: the row that begins here is malformed: {error}; a quote in quotes must be "
                "doubled, and quotes must end"
            ) from error


def shards(path: pathlib.Path) -> list[pathlib.Path]:
    """The files of a split whose first one is `path`: itself, or all of train-00000-of-00004.parquet and the like.

    Raises:
      DataError: naming the shards that are missing.
    """
    named = _SHARD.fullmatch(path.name)
    if named is None:
        return [path]
    start, _, of, count, ending = named.groups()
    names = [f"{start}{number:05}{of}{count}{ending}" for number in range(int(count))]
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing:
        raise DataError(f"{path.parent}: {', '.join(missing[:5])}{', ...' * (len(missing) > 5)} of {count} are missing")
    return [path.with_name(name) for name in names]


def open_tables(path: pathlib.Path) -> list[Table]:
    """The tables of a split, see `shards`."""
    return [ParquetTable(part) if part.suffix == ".parquet" else CsvTable(part) for part in shards(path)]
