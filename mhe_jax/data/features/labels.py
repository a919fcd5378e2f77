"""The labels beside features: one a row in labels.npy, or many in labels.npz, and the names of the classes."""

import pathlib
import zipfile

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.files import mapped_array, require_file
from mhe_jax.data.lines import read_lines
from mhe_jax.data.names import look_alike

ONE, MANY, FILTERED, NAMES = "labels.npy", "labels.npz", "filtered.npz", "classes.txt"


def read_names(root: pathlib.Path) -> tuple[str, ...]:
    """The lines of classes.txt, the name of class i in line i + 1; () without the file."""
    path = root / NAMES
    names = tuple(read_lines(path)) if path.exists() else ()
    if path.exists() and not names:
        raise DataError(f"{path} is empty: write the name of a class in each line, or remove it")
    return names


def read_one(folder: pathlib.Path, num_rows: int) -> np.ndarray:
    """labels.npy: integers or strings [N]; raises DataError if it is missing, of other rows, or holds anything else."""
    path = folder / ONE
    if not path.exists() and (folder / MANY).exists():
        raise DataError(
            f"{folder} holds {MANY}, many labels for each row: set config.data.name = 'features_multilabel', for which "
            "the shipped configs have the argument `multilabel`"
        )
    found = np.asarray(mapped_array(path))
    if found.ndim != 1 or found.dtype.kind not in "iuU":
        raise DataError(f"{path} holds {found.dtype} {list(found.shape)}; labels must be integers or strings [N]")
    _require_rows(path, len(found), num_rows)
    return found


def ids_of(
    path: pathlib.Path, labels: np.ndarray, names: tuple[str, ...], num_classes: int, where: object
) -> np.ndarray:
    """Labels as ids, int32 [N]: the places of strings in `names`, or the integers themselves.

    Args:
      path: where they come from, for messages.
      labels: integers or strings [N].
      names: of the classes; not needed for integers.
      num_classes: C.
      where: what says so, for messages.

    Raises:
      DataError: naming the first row whose label is none of the classes.
    """
    if labels.dtype.kind == "U":
        values, which = np.unique(labels, return_inverse=True)
        place = {name: number for number, name in enumerate(names)}
        ids = np.array([place.get(value, -1) for value in values.tolist()])[which]
        if (ids < 0).any():
            row = int((ids < 0).argmax())
            label = str(labels[row])
            raise DataError(
                f"{path}: row {row} has label {label!r}, which is none of the {num_classes} classes of {where}"
                f"{look_alike(label, names)}"
            )
        return ids.astype(np.int32)
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        row = int(outside.argmax())
        raise DataError(
            f"{path}: row {row} has label {labels[row]}, but {where} says that there are {num_classes} classes: labels "
            f"are numbers from 0 to {num_classes - 1}"
        )
    return labels.astype(np.int32)


def read_many(folder: pathlib.Path, num_rows: int) -> scipy.sparse.csr_matrix:
    """labels.npz: CSR float32 [N, L], columns sorted and none repeated, no stored 0; raises DataError as `read_one`."""
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
    matrix = scipy.sparse.csr_matrix(found, dtype=np.float32)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _require_rows(path: pathlib.Path, found: int, num_rows: int) -> None:
    if found != num_rows:
        raise DataError(f"{path} has {found} rows, but features.npy beside it has {num_rows}: one for each is needed")
