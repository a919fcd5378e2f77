"""One's own documents in tables: CSV, TSV and Parquet files with columns of texts and labels.

Labels are lists, strings with a separator between them, one a column, or columns of noughts and ones; see `columns`.
A label's id is its rank among those of all splits, as in `gathered`; a column of noughts is a label too. A document's
text is the cell as it is, or several joined by spaces.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.columns import Columns, Labels, find_labels, text_columns
from mhe_jax.data.texts.formats.gathered import gather, require_one_kind
from mhe_jax.data.texts.formats.label_cells import set_columns
from mhe_jax.data.texts.formats.labels import LabelNumbers, LabelRows
from mhe_jax.data.texts.formats.table_files import Table, open_tables


def read(files: Mapping[str, pathlib.Path], asked: Columns) -> Corpora:
    """Reads {'train'} and, if they are there, 'test' and 'validation', which may have no columns of labels.

    Args:
      files: the file of each split, or the first of its shards.
      asked: what the config says of the columns.
    """
    tables = {path: open_tables(path) for path in files.values()}
    train = tables[files["train"]][0]
    labels = find_labels(train, asked)

    def read_split(path: pathlib.Path, numbers: LabelNumbers) -> tuple[TextScan, LabelRows]:
        for name in labels.ones:
            numbers[name]
        scan, rows = TextScan(), LabelRows()
        for table in tables[path]:
            columns = labels.columns(table, asked)
            for number, text, cells in _documents(table, columns, asked):
                scan.add(text)
                where = functools.partial(table.at, number)
                found = _labels(labels, columns, cells, where)
                require_one_kind(found, numbers, where)
                rows.add(map(numbers.__getitem__, found))
        return scan, rows

    def texts(path: pathlib.Path) -> Iterator[str]:
        return (text for table in tables[path] for _, text, _ in _documents(table, [], asked))

    corpora = gather(files, read_split, texts)
    told = labels.told(labels.columns(train, asked))
    said = f"text: {', '.join(map(repr, text_columns(train, asked)))}; {told}"
    return dataclasses.replace(corpora, layout=f"{said}; {corpora.layout}")


def _documents(table: Table, columns: Sequence[str], asked: Columns) -> Iterator[tuple[int, str, Sequence[Any]]]:
    """The number of each row in messages, its text, and its values in some columns."""
    texts = text_columns(table, asked)
    for number, values in table.rows([*texts, *columns]):
        parts = ["" if value is None else value for value in values[: len(texts)]]
        for name, part in zip(texts, parts, strict=True):
            if not isinstance(part, str):
                raise DataError(
                    f"{table.at(number)}: column {name!r} holds {type(part).__name__}; texts must be strings"
                )
        yield number, parts[0] if len(parts) == 1 else " ".join(parts).strip(), values[len(texts) :]


def _labels(labels: Labels, columns: Sequence[str], cells: Sequence[Any], where: Callable[[], str]) -> list[Any]:
    """The labels of one row."""
    if labels.cells is None:
        return set_columns(cells, columns, where) if columns else []
    return [label for cell in cells for label in labels.cells.labels(cell, where)]
