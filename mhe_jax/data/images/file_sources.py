"""Tar shards, Parquet and Arrow files, opened as the pictures of training and of evaluation."""

import dataclasses
import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tqdm

from mhe_jax.data import stores
from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.columns import Columns, find_columns
from mhe_jax.data.images.layouts import Files
from mhe_jax.data.images.numbering import Written, numbered
from mhe_jax.data.images.table_source import ArrowSource, ParquetSource, TableSource, open_arrow, opened_parquet
from mhe_jax.data.images.tar_index import index_of
from mhe_jax.data.images.tar_source import TarSource
from mhe_jax.data.lines import decoded_lines, names_of_lines
from mhe_jax.data.parquet import told

CLASS_NAMES = "classes.txt"
_THREADS = 8  # that read labels or indices, mostly waiting for a store
_LARGE = 128 << 20  # bytes of a row group

FileSource = TarSource | TableSource


def open_files(files: Files, image_key: str, label_key: str) -> tuple[FileSource, FileSource | None]:
    """The pictures to train on and to evaluate, in the order of their files; both with the names of all classes.

    Raises:
      DataError: naming the file and the member or row, for what `tar_index.index_of`, `columns.find_columns` and
        `numbering.numbered` refuse, for files with other columns, and for a key in two shards.
    """
    splits = [paths for paths in (files.train, files.evaluate) if paths]
    names: Sequence[str] = ()
    named_by = stores.joined(files.root, CLASS_NAMES)
    opened: Sequence[tuple[FileSource, Written]]
    if files.layout == "tar":
        opened = [_tars(paths, image_key, label_key) for paths in splits]
    else:
        opened, columns = _tables(files.layout, splits, image_key, label_key)
        if columns.class_names:
            names, named_by = columns.class_names, f"the ClassLabel of {files.train[0]}"
    if not names and stores.entries(files.root).get(CLASS_NAMES) is False:
        names = _names(named_by)
    class_names, labels = numbered([written for _, written in opened], names, named_by)
    train, *others = (
        dataclasses.replace(source, class_names=class_names, labels=of)
        for (source, _), of in zip(opened, labels, strict=True)
    )
    return train, others[0] if others else None


def tell_large_groups(source: object) -> None:
    """Warns of Parquet files of which a picture drawn at random costs much."""
    if not isinstance(source, ParquetSource):
        return
    for path in source.paths:
        with opened_parquet(path) as opened:
            groups = [opened.metadata.row_group(number) for number in range(opened.metadata.num_row_groups)]
        largest = max((group.total_byte_size for group in groups), default=0)
        if largest > _LARGE:
            warnings.warn(
                f"{path} has row groups of up to {largest / 2**20:,.0f} MiB, one of which is decoded for each picture "
                "that is drawn: write it with some 100 rows in each, or keep the pictures with config.data.in_memory",
                stacklevel=2,
            )
            return


def _tars(paths: Sequence[str], image_key: str, label_key: str) -> tuple[TarSource, Written]:
    with ThreadPoolExecutor(_THREADS) as pool:
        indices = pool.map(lambda path: index_of(path, image_key, label_key), paths)
        title = f"indices of {os.path.dirname(paths[0])}"
        found = list(tqdm.tqdm(indices, title, len(paths), unit=" shards", disable=None, leave=False))
    kinds = {index.kind: path for path, index in zip(paths, found, strict=True)}
    if len(kinds) > 1:
        told_kinds = ", but ".join(f"those of {path} are {kind}" for kind, path in kinds.items())
        raise DataError(f"labels must be of one kind: {told_kinds}")
    counts = [len(index.keys) for index in found]
    keys, extensions, offsets, sizes, values = (
        np.concatenate(parts) for parts in zip(*(i[:5] for i in found), strict=True)
    )
    shards = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
    source = TarSource(tuple(paths), (), shards, keys, extensions, offsets, sizes, np.empty(len(keys), np.int32))
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if len(again):
        first, second = order[again[0]], order[again[0] + 1]
        raise DataError(
            f"the key {os.fsdecode(keys[first])!r} is in {paths[shards[first]]} and in {paths[shards[second]]}"
        )
    return source, Written(values, next(iter(kinds)), source.where)


def _tables(
    layout: str, splits: Sequence[Sequence[str]], image_key: str, label_key: str
) -> tuple[list[tuple[TableSource, Written]], Columns]:
    first, agreed = splits[0][0], None
    opened: list[tuple[TableSource, Written]] = []
    for paths in splits:
        parts = []
        for path in paths:
            columns, values = _labels(layout, path, image_key, label_key)
            agreed = agreed or columns
            if columns != agreed:
                raise DataError(f"{path} has the columns {columns}, but {first} {agreed}: all files must agree")
            parts.append(values)
        assert agreed is not None
        starts = np.cumsum([0, *map(len, parts)])
        kind = ArrowSource if layout == "arrow" else ParquetSource
        rows, labels = np.arange(starts[-1]), np.empty(starts[-1], np.int32)
        if not len(rows):
            raise DataError(f"{paths[0]} has no rows")
        source = kind(tuple(paths), (), starts, agreed.image, rows, labels)
        opened.append((source, Written(np.concatenate(parts), agreed.kind, source.where)))
    assert agreed is not None
    return opened, agreed


def _labels(layout: str, path: str, image_key: str, label_key: str) -> tuple[Columns, np.ndarray]:
    """The columns of a file, and its labels, int64 or str [N]."""
    if layout == "arrow":
        table = open_arrow(path)
        columns = find_columns(path, table.schema, image_key, label_key)
        cells = table.column(columns.label)
    else:
        with opened_parquet(path) as opened:
            columns = find_columns(path, opened.schema_arrow, image_key, label_key)
            with told(path):
                cells = opened.read(columns=[columns.label]).column(columns.label)
    found = cells.to_pylist()
    if cells.null_count:
        raise DataError(f"{path}: row {found.index(None)} has no label")
    if columns.kind != "integers":
        return columns, np.array(found, np.str_)
    most = np.iinfo(np.int64).max
    if max(found, default=0) > most:
        raise DataError(f"{path}: row {next(i for i, label in enumerate(found) if label > most)}: a label is too large")
    return columns, np.array(found, np.int64)


def _names(path: str) -> tuple[str, ...]:
    """A name a line."""
    file = stores.RangedFile(path)
    try:
        content = file.read(0, file.size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {stores.one_reason(error)}") from None
    return names_of_lines(decoded_lines(io.BytesIO(content), path), path)
