"""Picture files by number, whose labels are told elsewhere."""

import dataclasses
import os

import numpy as np

from mhe_jax.data.images.decode import read_bytes


@dataclasses.dataclass(frozen=True)
class FileSource:
    """The files `folder/<file>`; the label of each is its own number. Names are bytes, as in `FolderSource`."""

    folder: str
    files: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """int32 [N], as of sources whose files tell a class."""
        return np.arange(len(self.files), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> tuple[bytes, int, str]:
        path = os.path.join(self.folder, os.fsdecode(self.files[index]))
        return read_bytes(path), index, path

    def identity(self) -> tuple[np.ndarray]:
        return (self.files,)
