"""Pictures of tar shards by number, read where they lie."""

import dataclasses
import functools
import os
import tarfile

import numpy as np

from mhe_jax.data.dataset import BadExample
from mhe_jax.data.stores import RangedFile

_HEADER = tarfile.BLOCKSIZE
_SIZE = slice(124, 136)  # of the member, in its header


@dataclasses.dataclass(frozen=True)
class TarSource:
    """Members `keys[i].extensions[i]` of the shard with number shards[i], where sizes[i] bytes begin at offsets[i].

    All are arrays, as in FolderSource; a picture costs one read, whichever shard it is in.
    """

    paths: tuple[str, ...]
    class_names: tuple[str, ...]
    shards: np.ndarray
    keys: np.ndarray
    extensions: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def _files(self) -> dict[int, RangedFile]:
        return {}

    def read(self, index: int) -> tuple[bytes, int, str]:
        shard, offset, size = int(self.shards[index]), int(self.offsets[index]), int(self.sizes[index])
        where = self.where(index)
        file = self._files.get(shard) or self._files.setdefault(shard, RangedFile(self.paths[shard]))
        try:
            data = file.read(offset - _HEADER, _HEADER + size)
        except OSError as error:
            raise BadExample(f"{where}: cannot be read: {error.strerror}") from error
        if len(data) < _HEADER + size or not _is_of_size(data, size):
            raise BadExample(f"{where}: is no longer at byte {offset}: the shard was changed while it was read")
        return data[_HEADER:], int(self.labels[index]), where

    def where(self, index: int) -> str:
        """The picture in messages."""
        name = f"{os.fsdecode(self.keys[index])}.{os.fsdecode(self.extensions[index])}"
        return f"{self.paths[self.shards[index]]}: member {name}"

    def name(self, index: int) -> bytes:
        """What the picture is called, wherever its shard lies."""
        return bytes(self.keys[index])

    def take(self, rows: np.ndarray) -> "TarSource":
        """These pictures alone: places, or a truth value for each."""
        names = ("shards", "keys", "extensions", "offsets", "sizes", "labels")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in names})

    def identity(self) -> tuple:
        return self.class_names, self.keys, self.labels


def _is_of_size(header: bytes, size: int) -> bool:
    """Whether a member's header says that it has so many bytes."""
    digits = header[_SIZE].strip(b" \0")
    return digits.isdigit() and size == int(digits, 8)
