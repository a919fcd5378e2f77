"""The labels beside features: one a row in labels.npy, or many in labels.npz, and the names of the classes.

labels.jsonl stands for either: a label a line, or a list of labels.
"""

import dataclasses
import functools
import itertools
import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.files import mapped_array, require_file
from mhe_jax.data.lines import names_of_lines, read_lines
from mhe_jax.data.multi_hot import ListedRows, one_width, read_multi_hot
from mhe_jax.data.names import look_alike
from mhe_jax.data.ragged import ones_at

ONE, MANY, LINES, FILTERED, NAMES = "labels.npy", "labels.npz", "labels.jsonl", "filtered.npz", "classes.txt"


@dataclasses.dataclass(frozen=True)
class Listed:
    """Labels of rows as a file lists them.

    path: the file, for messages.
    labels: of all rows end to end, integers or strings [M].
    counts: how many each row has, int64 [N].
    """

    path: pathlib.Path
    labels: np.ndarray
    counts: np.ndarray


def read_names(root: pathlib.Path) -> tuple[str, ...]:
    """The lines of classes.txt, the name of class i in line i + 1; () without the file."""
    path = root / NAMES
    names = names_of_lines(read_lines(path), path) if path.exists() else ()
    if path.exists() and not names:
        raise DataError(f"{path} is empty: write the name of a class in each line, or remove it")
    return names


def read_one(folder: pathlib.Path, num_rows: int, named: pathlib.Path | None = None) -> np.ndarray:
    """labels.npy or labels.jsonl: integers or strings [N].

    Args:
      folder: where it is.
      num_rows: N.
      named: what it was decoded from, for messages.

    Raises:
      DataError: if it is missing, of other rows, or holds anything else.
    """
    path = label_file(folder)
    if path.name == LINES:
        listed = _listed(path, num_rows, several=False, named=named)
        return listed.labels
    if not path.exists() and (folder / MANY).exists():
        raise DataError(
            f"{folder} holds {MANY}, many labels for each row: set config.data.name = 'features_multilabel', for which "
            "the shipped configs have the argument `multilabel`"
        )
    found = np.asarray(mapped_array(path))
    if found.ndim != 1 or found.dtype.kind not in "iuU":
        raise DataError(f"{path} holds {found.dtype} {list(found.shape)}; labels must be integers or strings [N]")
    _require_rows(named or path, len(found), num_rows)
    return found


def label_file(folder: pathlib.Path, usual: str = ONE) -> pathlib.Path:
    """labels.jsonl, where there is one, or the `usual` file; raises DataError if there is another one beside it."""
    there = [name for name in (ONE, MANY, LINES) if (folder / name).exists()]
    if LINES in there and len(there) > 1:
        raise DataError(f"{folder} holds {' and '.join(there)}: leave one of them")
    return folder / (LINES if LINES in there else usual)


def _listed(path: pathlib.Path, num_rows: int, several: bool, named: pathlib.Path | None) -> Listed:
    """A line of JSON for each row: a label, or with `several` a list of labels."""
    rows: list[list[Any]] = []
    kind: type | None = None
    for number, line in enumerate(read_lines(path), 1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: malformed JSON ({error}); each line is one row's labels") from error
        row = found if several and isinstance(found, list) else [found]
        if not all(type(label) in (int, str) for label in row):
            wanted = "an integer, a string, or a list of these" if several else "an integer or a string"
            raise DataError(f"{path}:{number}: the line is {line[:40]}; it must be {wanted}")
        kind = kind or (type(row[0]) if row else None)
        if not all(type(label) is kind for label in row):
            raise DataError(f"{path}:{number}: labels are integers, or strings, in all lines; not both")
        rows.append(row)
    path = named or path
    _require_rows(path, len(rows), num_rows)
    flat = list(itertools.chain.from_iterable(rows))
    try:
        labels = np.array(flat) if flat else np.zeros(0, np.int64)
    except OverflowError:
        labels = np.zeros(0, object)
    if labels.dtype.kind not in "iU":
        raise DataError(f"{path} holds an integer that is none of a class")
    return Listed(path, labels, np.array([len(row) for row in rows]))


def kinds(found: Mapping[str, scipy.sparse.csr_matrix | Listed], names: tuple[str, ...]) -> dict[str, np.dtype]:
    """The kinds of the labels of splits that have any; columns are numbers, of which `names` says what they mean."""
    columns = {} if names else {name: np.dtype(np.int64) for name in found}
    listed = {name: labels.labels for name, labels in found.items() if isinstance(labels, Listed)}
    of = {**columns, **{name: labels.dtype for name, labels in listed.items()}}
    return {name: kind for name, kind in of.items() if name not in listed or len(listed[name])}


def require_one_kind(kinds: Mapping[str, np.dtype], paths: Mapping[str, pathlib.Path]) -> None:
    """Raises DataError, naming the file, unless labels are strings in all splits, or integers in all.

    Args:
      kinds: of the labels of the splits that have any, training first.
      paths: where the labels of each split come from.
    """
    first = next(iter(kinds), "")
    for name, kind in kinds.items():
        if (kind.kind == "U") != (kinds[first].kind == "U"):
            raise DataError(
                f"{paths[name]} holds {kind} labels, but that of {first}/ {kinds[first]}: all splits need strings, or "
                "all integers"
            )


def matrices(
    found: Mapping[str, scipy.sparse.csr_matrix | Listed], names: tuple[str, ...], where: object
) -> tuple[tuple[str, ...], dict[str, scipy.sparse.csr_matrix]]:
    """Labels of splits as CSR float32 [N, L], the split to train on first, and the names of the labels.

    Without `names` listed strings are named by those to train on, sorted, and numbers end at the highest of all splits.
    Rows of noughts and ones are read as such, see `read_multi_hot`.

    Raises:
      DataError: naming the row of a label that is none of these.
    """
    listed = {name: labels for name, labels in found.items() if isinstance(labels, Listed)}
    if multi_hot := _multi_hot(listed):
        return names, {name: multi_hot.get(name, labels) for name, labels in found.items()}
    first = next(iter(found.values()))
    if isinstance(first, Listed) and first.labels.dtype.kind == "U":
        names = names or tuple(np.unique(first.labels).tolist())
        if len(set(names)) < len(names):
            raise DataError(f"{where} lists a name twice, but labels are names: make them differ")
    highest = [int(labels.labels.max(initial=-1)) for labels in listed.values() if labels.labels.dtype.kind == "i"]
    number = len(names) or (first.shape[1] if not isinstance(first, Listed) else 1 + max(highest, default=-1))
    made = {}
    for name, labels in found.items():
        if not isinstance(labels, Listed):
            made[name] = labels
            continue
        row = np.repeat(np.arange(len(labels.counts)), labels.counts)
        ids = ids_of(labels.path, labels.labels, names, number, where, row)
        matrix = scipy.sparse.csr_matrix((np.ones(len(ids), np.float32), (row, ids)), (len(labels.counts), number))
        matrix.data[:] = 1  # of a label that is listed twice
        made[name] = matrix
    return names, made


def _multi_hot(listed: Mapping[str, Listed]) -> dict[str, scipy.sparse.csr_matrix]:
    """The splits whose rows are noughts and ones; none if those of the first one are lists of labels."""
    if not listed or not one_width(next(iter(listed.values())).counts):
        return {}
    values, places = np.unique(np.concatenate([some.labels for some in listed.values()]), return_inverse=True)
    ends = np.cumsum([len(some.labels) for some in listed.values()])[:-1]
    splits = [
        ListedRows(some.counts, columns, functools.partial("{}: row {}".format, some.path))
        for some, columns in zip(listed.values(), np.split(places, ends), strict=True)
    ]
    multi_hot = read_multi_hot(values.tolist(), splits)
    if multi_hot is None:
        return {}
    width, found = multi_hot
    return {name: ones_at(columns, counts, width) for name, (counts, columns) in zip(listed, found, strict=True)}


def ids_of(
    path: pathlib.Path,
    labels: np.ndarray,
    names: tuple[str, ...],
    num_classes: int,
    where: object,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Labels as ids, int32 [N]: the places of strings in `names`, or the integers themselves.

    Args:
      path: where they come from, for messages.
      labels: integers or strings [N].
      names: of the classes; not needed for integers.
      num_classes: C.
      where: what says so, for messages.
      rows: of the labels, int [N], where a row may have several.

    Raises:
      DataError: naming the first row whose label is none of the classes.
    """
    if labels.dtype.kind == "U":
        values, which = np.unique(labels, return_inverse=True)
        place = {name: number for number, name in enumerate(names)}
        ids = np.array([place.get(value, -1) for value in values.tolist()])[which]
        if (ids < 0).any():
            place_of = int((ids < 0).argmax())
            row, label = place_of if rows is None else int(rows[place_of]), str(labels[place_of])
            raise DataError(
                f"{path}: row {row} has label {label!r}, which is none of the {num_classes} classes of {where}"
                f"{look_alike(label, names)}"
            )
        return ids.astype(np.int32)
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        place_of = int(outside.argmax())
        row = place_of if rows is None else int(rows[place_of])
        raise DataError(
            f"{path}: row {row} has label {labels[place_of]}, but {where} says that there are {num_classes} classes: "
            f"labels are numbers from 0 to {num_classes - 1}"
        )
    return labels.astype(np.int32)


def read_many(
    folder: pathlib.Path, num_rows: int, named: pathlib.Path | None = None
) -> scipy.sparse.csr_matrix | Listed:
    """labels.npz: CSR float32 [N, L], columns sorted and none repeated, no stored 0; or labels.jsonl as it is.

    Args and errors are those of `read_one`.
    """
    if label_file(folder).name == LINES:
        return _listed(folder / LINES, num_rows, several=True, named=named)
    if not (folder / MANY).exists() and (folder / ONE).exists():
        raise DataError(
            f"{folder} holds {ONE}, one label for each row: set config.data.name = 'features', as the shipped configs "
            "do without the argument `multilabel`"
        )
    return _matrix(folder / MANY, num_rows)


def read_filtered(folder: pathlib.Path, num_rows: int) -> scipy.sparse.csr_matrix | None:
    """filtered.npz, labels that evaluation leaves out of a row's ranking, as `read_many`; None without the file."""
    path = folder / FILTERED
    return _matrix(path, num_rows) if path.exists() else None


def _matrix(path: pathlib.Path, num_rows: int) -> scipy.sparse.csr_matrix:
    require_file(path)
    try:
        found = scipy.sparse.load_npz(path).tocsr()
        found.check_format(full_check=True)
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(
            f"{path} is no sparse matrix that scipy.sparse.save_npz wrote: {' '.join(str(error).split())}"
        ) from error
    _require_rows(path, found.shape[0], num_rows)
    if found.dtype.kind not in "biuf" or not np.isfinite(found.data).all():
        raise DataError(f"{path} holds {found.dtype} values, or some that are not finite; numbers are needed")
    if (found.data < 0).any():
        raise DataError(f"{path} holds a negative value: a label is there, above 0, or not")
    matrix = scipy.sparse.csr_matrix(found, dtype=np.float32)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _require_rows(path: pathlib.Path, found: int, num_rows: int) -> None:
    if found != num_rows:
        raise DataError(f"{path} has {found} rows, but the features beside it have {num_rows}: one for each is needed")
