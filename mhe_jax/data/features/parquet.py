"""Features in Parquet files: decoded once into a cache, from where they are mapped into memory as others are."""

import hashlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tqdm

from mhe_jax.data.cache import cache_root
from mhe_jax.data.dataset import DataError
from mhe_jax.data.features.arrays import FILE
from mhe_jax.data.features.labels import LINES, ONE
from mhe_jax.data.parquet import open_parquet, told

FEATURES = ("features", "embedding")
LABELS = ("label", "labels")  # one a row, several a row
_ROWS = 8192  # decoded together
_VERSION = 2  # of what is kept


def decoded(files: Sequence[pathlib.Path], several: bool) -> pathlib.Path:
    """The folder with the rows of Parquet files, one file after the other, as features.npy and labels.

    The column `features`, or `embedding`, holds lists of float16, float32 or float64, all of one length; float64
    becomes float32. The column `label` of integers or strings becomes labels.npy, or with `several` the column
    `labels`, lists of these, labels.jsonl; there may be none. The folder lies under $XDG_CACHE_HOME or ~/.cache, by
    the files' paths, sizes and times of change and by `several`: files that have changed are decoded anew, and old
    folders may be removed at any time.

    Raises:
      DataError: naming the file, and the row, if columns are missing or hold anything else, or a file is damaged.
    """
    known = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    root = cache_root() / "features"
    folder = root / hashlib.sha256(json.dumps([_VERSION, known, several]).encode()).hexdigest()[:32]
    if folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        made = pathlib.Path(tempfile.mkdtemp(dir=root))
        try:
            _decode(files, several, made, folder)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # no other process was faster
                    raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise DataError(f"the features of {files[0].parent} cannot be kept in {root}: {error}") from error
    return folder


def require_no_other_labels(path: pathlib.Path, several: bool) -> None:
    """Raises DataError if a file has the column of labels that is not the one of `several`."""
    other = LABELS[not several]
    if other in open_parquet(path).schema_arrow.names:
        what, name = ("one label", "features") if several else ("many labels", "features_multilabel")
        raise DataError(
            f"{path} has the column {other!r}, {what} for each row, and none {LABELS[several]!r}: set config.data.name "
            f"= {name!r}, for which the shipped configs have {'no' if several else 'the'} argument `multilabel`"
        )


def _decode(files: Sequence[pathlib.Path], several: bool, into: pathlib.Path, folder: pathlib.Path) -> None:
    opened = [open_parquet(path) for path in files]
    columns = [_columns(path, file.schema_arrow, several) for path, file in zip(files, opened, strict=True)]
    if len(set(columns)) > 1:
        raise DataError(f"{files[0].parent}: the Parquet files have other columns, {' and '.join(map(str, columns))}")
    features, label, _ = columns[0]
    rows = sum(file.metadata.num_rows for file in opened)
    matrix, labels, start = None, [], 0
    with tqdm.tqdm(total=rows, desc=f"decoding {files[0].parent} into {folder}", unit=" rows", disable=None) as bar:
        for path, file in zip(files, opened, strict=True):
            first = start
            for batch in _batches(path, file, [name for name in (features, label) if name]):
                block = _block(path, start - first, batch.column(features))
                if matrix is None:
                    shape = (rows, block.shape[1])
                    matrix = np.lib.format.open_memmap(into / FILE, mode="w+", dtype=block.dtype, shape=shape)
                if (block.shape[1], block.dtype) != (matrix.shape[1], matrix.dtype):
                    raise DataError(
                        f"{path}: row {start - first} has {block.shape[1]} features, {block.dtype}, but the rows "
                        f"before it {matrix.shape[1]}, {matrix.dtype}"
                    )
                matrix[start : start + len(block)] = block
                if label:
                    labels += _labels(path, start - first, batch.column(label))
                start += len(block)
                bar.update(len(block))
    if matrix is None:
        raise DataError(f"{files[0]} has no rows")
    matrix.flush()
    if label == LABELS[0]:
        np.save(into / ONE, np.array(labels))
    elif label:
        (into / LINES).write_text("".join(f"{json.dumps(some)}\n" for some in labels), encoding="utf-8")


def _batches(path: pathlib.Path, file: Any, columns: list[str]) -> Iterator[Any]:
    batches = file.iter_batches(batch_size=_ROWS, columns=columns)
    while True:
        with told(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _columns(path: pathlib.Path, schema: Any, several: bool) -> tuple[str, str, str]:
    """The names of the columns with features and with labels, and what labels are; '' without labels. Checks types."""
    import pyarrow.types as kinds

    is_list = lambda kind: kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    is_label = lambda kind: kinds.is_integer(kind) or kinds.is_string(kind) or kinds.is_large_string(kind)
    features = next((name for name in FEATURES if name in schema.names), "")
    if not features:
        raise DataError(f"{path} has the columns {', '.join(schema.names)}; one is needed of {' or '.join(FEATURES)}")
    kind = schema.field(features).type
    if not is_list(kind) or not kinds.is_floating(kind.value_type):
        raise DataError(f"{path}: the column {features!r} is {kind}; it must hold lists of floating point numbers")
    label, of_labels = LABELS[several] if LABELS[several] in schema.names else "", ""
    if label:
        kind = schema.field(label).type
        inner = kind.value_type if label == LABELS[1] and is_list(kind) else kind
        if is_list(kind) != (label == LABELS[1]) or not is_label(inner):
            wanted = "integers or strings" if label == LABELS[0] else "lists of integers or strings"
            raise DataError(f"{path}: the column {label!r} is {kind}; it must hold {wanted}")
        of_labels = "integers" if kinds.is_integer(inner) else "strings"
    return features, label, of_labels


def _block(path: pathlib.Path, start: int, column: Any) -> np.ndarray:
    """Lists of numbers as [B, D]; row `start` of the file comes first."""
    import pyarrow.compute as compute

    values = column.flatten()
    if column.null_count or values.null_count:
        rows = column.to_pylist()
        bad = next(place for place, row in enumerate(rows) if row is None or None in row)
        raise DataError(f"{path}: row {start + bad} has no features, or one without a value")
    lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
    other = np.flatnonzero(lengths != lengths[0])
    if len(other):
        raise DataError(
            f"{path}: row {start + other[0]} has {lengths[other[0]]} features, but row {start} {lengths[0]}: all need "
            "the same number"
        )
    numbers = values.to_numpy(zero_copy_only=False).reshape(len(lengths), -1)
    return numbers.astype(np.float32) if numbers.dtype == np.float64 else numbers


def _labels(path: pathlib.Path, start: int, column: Any) -> list:
    found = column.to_pylist()
    bad = next(
        (place for place, label in enumerate(found) if label is None or (isinstance(label, list) and None in label)),
        None,
    )
    if bad is not None:
        raise DataError(f"{path}: row {start + bad} has no label")
    return found
