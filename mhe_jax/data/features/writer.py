"""Writing a folder of features: in blocks into memory maps, so that an interruption loses little and memory none."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.features import labels as files
from mhe_jax.data.features.arrays import FILE, not_finite
from mhe_jax.data.features.folder import TEST, TRAIN, VALID
from mhe_jax.data.names import one_line

PROGRESS = "progress.json"


class FolderWriter:
    """A folder in the layout of `mhe_jax.data.features.folder`; another call with the same source goes on with it.

    progress.json in it says what was made, and how many batches of each split are on the disk; `close` removes it.
    """

    def __init__(self, folder: pathlib.Path, source: Mapping[str, Any]):
        """Begins a folder, or goes on with it.

        Args:
          folder: may not exist yet.
          source: what the features are made of, as JSON has it.

        Raises:
          DataError: if the folder holds features already, finished or of something else.
        """
        self._folder, self._path = folder, folder / PROGRESS
        self._progress: dict[str, Any] = {"source": dict(source), "done": {}}
        if self._path.exists():
            self._progress = _read(self._path)
            there = self._progress["source"]
            different = sorted(name for name in {*there, *source} if there.get(name) != source.get(name))
            if different:
                raise DataError(
                    f"{folder} holds unfinished features of something else, by {', '.join(different)}: remove it, or "
                    "choose another folder"
                )
            return
        for name in (TRAIN, VALID, TEST):
            if (folder / name).exists():
                raise DataError(f"{folder / name} is there already: remove it, or choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._save()

    def done(self, split: str) -> int:
        """How many batches of a split are on the disk."""
        return self._progress["done"].get(split, 0)

    def split(
        self, name: str, shape: tuple[int, int], dtype: str, labels: scipy.sparse.csr_matrix | None
    ) -> "SplitWriter":
        """The files of a split, in the state in which they were saved.

        Args:
          name: train, val or test.
          shape: (N, D).
          dtype: float16 or float32.
          labels: of all rows, where they have many; None for one a row, which come with the features.
        """
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        if labels is not None:
            save_matrix(folder / files.MANY, labels)
        begun = self.done(name) > 0
        return SplitWriter(self, name, folder, shape, dtype, labels is None, begun)

    def save(self, split: str, done: int) -> None:
        """Keeps how many batches of a split are on the disk."""
        self._progress["done"][split] = done
        self._save()

    def close(self, names: Sequence[str]) -> None:
        """Writes the names of the classes, by their ids, and says that the folder is complete."""
        # A label's name may be blank, but no line.
        text = "".join(f"{one_line(name) if name.strip() else number}\n" for number, name in enumerate(names))
        (self._folder / files.NAMES).write_text(text, encoding="utf-8")
        self._path.unlink()

    def _save(self) -> None:
        temporary = self._path.with_name(f"{PROGRESS}.tmp")
        with temporary.open("w") as file:
            json.dump(self._progress, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


class SplitWriter:
    """features.npy, and with one label a row labels.npy, of one split."""

    def __init__(
        self,
        writer: FolderWriter,
        name: str,
        folder: pathlib.Path,
        shape: tuple[int, int],
        dtype: str,
        with_labels: bool,
        begun: bool,
    ):
        self._writer, self._name, self._path = writer, name, folder / FILE
        self._features = _mapped(self._path, shape, np.dtype(dtype), begun)
        label_file = folder / files.ONE
        self._labels = _mapped(label_file, shape[:1], np.dtype(np.int32), begun) if with_labels else None

    def add(self, index: np.ndarray, features: np.ndarray, labels: np.ndarray) -> None:
        """Features float [B, D] of the rows index int [B], and their labels, int [B] where they have one.

        Raises:
          DataError: naming a row that holds a NaN, an infinity, or what the file's type cannot hold.
        """
        with np.errstate(over="ignore"):  # told below
            rows = features.astype(self._features.dtype)
        bad = not_finite(rows)
        if bad.any():
            lost = np.isfinite(features[bad]).all()
            what = "is too large for float16: write float32" if lost else "holds a NaN or an infinity"
            raise DataError(f"{self._path}: row {index[bad.argmax()]} {what}")
        self._features[index] = rows
        if self._labels is not None:
            self._labels[index] = labels

    def save(self, done: int) -> None:
        """Brings what was added to the disk, `done` batches in all."""
        self._features.flush()
        if self._labels is not None:
            self._labels.flush()
        self._writer.save(self._name, done)


def save_matrix(path: pathlib.Path, matrix: scipy.sparse.csr_matrix) -> None:
    """Writes a sparse matrix, at once."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        scipy.sparse.save_npz(file, matrix)
    temporary.replace(path)


def _mapped(path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype, begun: bool) -> np.memmap:
    if not begun:
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    try:
        found = np.lib.format.open_memmap(path, mode="r+")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be gone on with: {error}: remove its folder to begin again") from error
    if found.shape != shape or found.dtype != dtype:
        raise DataError(
            f"{path} holds {found.dtype} {list(found.shape)}, not {dtype} {list(shape)} as when it was begun: remove "
            "its folder to begin again"
        )
    return found


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        progress = json.loads(path.read_bytes())
        if isinstance(progress["source"], dict) and all(type(done) is int for done in progress["done"].values()):
            return progress
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise DataError(f"{path} is damaged, so that the features cannot be gone on with: remove {path.parent}")
