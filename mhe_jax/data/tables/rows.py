"""The rows of a table: what names each one, a document's text or a picture's file, and its labels."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mhe_jax.data.dataset import DataError
from mhe_jax.data.tables.columns import Columns, Labels, text_columns
from mhe_jax.data.tables.label_cells import set_columns
from mhe_jax.data.tables.table_files import Table


def named_rows(table: Table, columns: Sequence[str], asked: Columns) -> Iterator[tuple[int, str, Sequence[Any]]]:
    """The number of each row in messages, its text, and its values in some columns.

    Raises:
      DataError: naming the row, for a text that is no string.
    """
    texts = text_columns(table, asked)
    for number, values in table.rows([*texts, *columns]):
        parts = ["" if value is None else value for value in values[: len(texts)]]
        for name, part in zip(texts, parts, strict=True):
            if not isinstance(part, str):
                raise DataError(
                    f"{table.at(number)}: column {name!r} holds {type(part).__name__}; texts must be strings"
                )
        yield number, parts[0] if len(parts) == 1 else " ".join(parts).strip(), values[len(texts) :]


def labels_of_row(labels: Labels, columns: Sequence[str], cells: Sequence[Any], where: Callable[[], str]) -> list[Any]:
    """The labels of one row, of its cells in the `columns` of labels, which may be none.

    Raises:
      DataError: beginning with `where()`, for a cell that holds something else.
    """
    if labels.cells is None:
        return set_columns(cells, columns, where) if columns else []
    return [label for cell in cells for label in labels.cells.labels(cell, where)]
