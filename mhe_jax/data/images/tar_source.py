"""Pictures of tar shards by number, read where they lie."""

import collections
import dataclasses
import functools
import os
import tarfile
import threading
from typing import ClassVar

import numpy as np

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.stores import RangedFile

_HEADER = tarfile.BLOCKSIZE
_SIZE = slice(124, 136)  # of the member, in its header
_MOST_OPEN = 128  # shards that a process keeps open


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

    _lock: ClassVar[threading.Lock] = threading.Lock()  # of the dictionaries alone

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def _files(self) -> "collections.OrderedDict[int, RangedFile]":
        return collections.OrderedDict()

    def _file(self, shard: int) -> RangedFile:
        """The file of a shard. One that was not asked for lately is dropped: its last reader closes it."""
        with self._lock:
            file = self._files.pop(shard, None) or RangedFile(self.paths[shard])
            self._files[shard] = file
            if len(self._files) > _MOST_OPEN:
                self._files.popitem(last=False)
        return file

    def read(self, index: int) -> tuple[bytes, int, str]:
        shard, offset, size = int(self.shards[index]), int(self.offsets[index]), int(self.sizes[index])
        where = self.where(index)
        try:
            data = self._file(shard).read(offset - _HEADER, _HEADER + size)
        except OSError as error:
            raise BadExample(f"{where}: cannot be read: {error.strerror}") from error
        except DataError as error:  # it cannot be opened
            raise BadExample(f"{where}: {error}") from error
        if len(data) != _HEADER + size or not _is_of_size(data, size):
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
