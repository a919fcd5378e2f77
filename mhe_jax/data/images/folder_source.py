"""Picture files of one split by number: in a folder for each class, or all in one folder."""

import dataclasses
import os

import numpy as np

from mhe_jax.data.images.decode import read_bytes


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """The files `folder/<class>/<file>`, or `folder/<together>/<file>` of all classes, in order of class and path.

    Names are kept as bytes in one array: a million Python strings would take minutes to send to worker processes.
    """

    folder: str
    class_names: tuple[str, ...]
    files: np.ndarray
    labels: np.ndarray
    together: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[bytes, int, str]:
        label = int(self.labels[index])
        below = self.together or self.class_names[label]
        path = os.path.join(self.folder, below, os.fsdecode(self.files[index]))
        return read_bytes(path), label, path

    def identity(self) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        return self.class_names, self.files, self.labels

    def name(self, index: int) -> bytes:
        """What the picture is called, wherever the folder lies."""
        return os.fsencode(self.class_names[self.labels[index]]) + b"/" + bytes(self.files[index])

    def take(self, rows: np.ndarray) -> "FolderSource":
        """These pictures alone: places, or a truth value for each."""
        return dataclasses.replace(self, files=self.files[rows], labels=self.labels[rows])
