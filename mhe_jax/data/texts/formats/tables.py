"""One's own documents in tables: CSV, TSV and Parquet files with columns of texts and labels.

Labels are lists, strings with a separator between them, one a column, or columns of noughts and ones; see `columns`.
A label's id is its rank among those of all splits, as in `gathered`; a column of noughts is a label too. A document's
text is the cell as it is, or several joined by spaces.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping

from mhe_jax.data.lines import TextScan
from mhe_jax.data.tables.columns import Columns, find_labels, text_columns
from mhe_jax.data.tables.one_kind import require_one_kind
from mhe_jax.data.tables.rows import labels_of_row, named_rows
from mhe_jax.data.tables.table_files import open_tables
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.gathered import gather
from mhe_jax.data.texts.formats.labels import LabelNumbers, LabelRows


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
            for number, text, cells in named_rows(table, columns, asked):
                scan.add(text)
                where = functools.partial(table.at, number)
                found = labels_of_row(labels, columns, cells, where)
                require_one_kind(found, numbers, where)
                rows.add(map(numbers.__getitem__, found))
        return scan, rows

    def texts(path: pathlib.Path) -> Iterator[str]:
        return (text for table in tables[path] for _, text, _ in named_rows(table, [], asked))

    corpora = gather(files, read_split, texts)
    told = labels.told(labels.columns(train, asked))
    said = f"text: {', '.join(map(repr, text_columns(train, asked)))}; {told}"
    return dataclasses.replace(corpora, layout=f"{said}; {corpora.layout}")
