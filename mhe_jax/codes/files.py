"""Codes in files: `.npy` with the ids of the classes in code order, or a text with their names, one a line."""

import contextlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.files import require_file
from mhe_jax.data.lines import read_lines
from mhe_jax.data.names import look_alike
from mhe_jax.labels import LabelCodes

# In a run's folder.
FILE = "codes.npy"


def read_kept(path: pathlib.Path, num_classes: int) -> LabelCodes:
    """The codes that a run keeps: as in `read_codes`, but a code may have no class, -1, and a class no code.

    Raises:
      DataError: naming the file, if it is damaged, or of other classes.
    """
    require_file(path)
    return _checked(path, lambda: LabelCodes.placed(_read_array(path), num_classes))


def read_codes(path: pathlib.Path, num_classes: int, names: Sequence[str] = ()) -> LabelCodes:
    """The codes of a file.

    Args:
      path: an integer array [C] in a `.npy`, whose entry c is the id of the class with code c; or any other name, with
        line c naming that class, by its number where the data set has no names.
      num_classes: C, of the data.
      names: of its classes, by id.

    Raises:
      DataError: naming the file, if it is damaged, of another number of classes, or not one line for each class.
    """
    require_file(path)
    ids = _read_array(path) if path.suffix == ".npy" else _read_names(path, num_classes, names)
    if len(ids) != num_classes:
        raise DataError(f"{path} holds codes of {len(ids)} classes, but there are {num_classes}")
    return _checked(path, lambda: LabelCodes.of(ids))


def _checked(path: pathlib.Path, made: Callable[[], LabelCodes]) -> LabelCodes:
    try:
        return made()
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def write_codes(path: pathlib.Path, codes: LabelCodes) -> None:
    """Replaces a `.npy` at once, so that a crash leaves the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, codes.classes_by_code)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error}") from error


def _read_array(path: pathlib.Path) -> np.ndarray:
    try:
        ids = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is no array of numbers: {error}") from None
    if not isinstance(ids, np.ndarray):
        ids.close()
        raise DataError(f"{path} is no array of numbers, but an archive of several")
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise DataError(f"{path} must hold one whole number for each class, not {ids.dtype} {list(ids.shape)}")
    return ids


def _read_names(path: pathlib.Path, num_classes: int, names: Sequence[str]) -> np.ndarray:
    id_of_name = ids_by_name(num_classes, names)
    lines = [line.strip() for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if line not in id_of_name:
            raise DataError(f"{path}:{number}: {line!r} is no class of the data{look_alike(line, id_of_name)}")
    return np.array([id_of_name[line] for line in lines], np.int64)


def ids_by_name(num_classes: int, names: Sequence[str]) -> dict[str, int]:
    """The id of each class by its name; by its number where it has none."""
    return {names[i] if i < len(names) else str(i): i for i in range(num_classes)}
