"""Writers of pictures, as records or as files in folders; each can go on where an interrupted one stopped.

The state of a writer is small and plain (JSON): what it wrote after it gave a state is forgotten when it is opened with
that state, so that the files are the same as without the interruption.
"""

import os
import pathlib
from typing import Any, BinaryIO, Protocol

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.formats.names import write_names
from mhe_jax.data.faces.formats.recordio import (
    FLOAT_WHOLE,
    index_lines,
    pack_image,
    require_whole_labels,
    write_record,
)

_EXTENSIONS = {b"\x89PNG": ".png", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif", b"BM": ".bmp"}


class PictureWriter(Protocol):
    """Writes pictures into a folder."""

    def open(self, state: dict[str, Any]) -> None:
        """Goes on from a state, or begins anew with an empty one."""

    def write(self, number: int, label: int, image: bytes) -> None:
        """Takes the picture that is `number` in its source."""

    def state(self) -> dict[str, Any]:
        """What `open` needs to go on from here, once all that was written is on the disk."""


class RecordWriter:
    """train.rec, train.idx and property as insightface reads them, and classes.txt; pictures come by identity.

    The images have the keys 1 .. N; after them follow the header, key 0 with the labels (N + 1, N + 1 + C), and a
    record for each identity with the range of its keys. If those numbers are too large for the header's float32,
    images have the keys 0 .. N - 1 and nothing follows, which insightface reads too.

    Raises:
      DataError: for more identities than the labels' float32 can tell apart.
    """

    def __init__(self, folder: pathlib.Path, class_names: tuple[str, ...], num_images: int, num_classes: int):
        require_whole_labels(num_classes, str(folder))
        self._folder, self._class_names = folder, class_names
        self._has_header = num_images + 1 + num_classes <= FLOAT_WHOLE
        self._files: list[BinaryIO] = []
        self._count = 0

    def open(self, state: dict[str, Any]) -> None:
        for name in ("train.rec", "train.idx"):
            path = self._folder / name
            path.touch()
            size = state.get(name, 0)
            if path.stat().st_size < size:
                raise DataError(f"{path} is shorter than when its conversion stopped: remove {self._folder}")
            file = path.open("r+b")
            self._files.append(file)
            file.truncate(size)
            file.seek(size)
        self._count = state.get("count", 0)
        if self._class_names:
            write_names(self._folder, self._class_names)

    def write(self, number: int, label: int, image: bytes) -> None:
        self._add(self._count + self._has_header, pack_image(label, self._count + self._has_header, image))
        self._count += 1

    def state(self) -> dict[str, Any]:
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        rec, idx = self._files
        return {"train.rec": rec.tell(), "train.idx": idx.tell(), "count": self._count}

    def finish(self, counts: np.ndarray, image_size: tuple[int, int]) -> None:
        """Completes the files, given how many pictures each identity has, and their height and width."""
        if self._has_header:
            first, starts = self._count + 1, 1 + np.cumsum(counts) - counts
            self._add(0, pack_image((first, first + len(counts)), 0, b""))
            for label, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
                self._add(first + label, pack_image((start, start + count), first + label, b""))
        self.state()
        (self._folder / "property").write_text(f"{len(counts)},{image_size[0]},{image_size[1]}\n")

    def close(self) -> None:
        """Closes the files, complete or not."""
        for file in self._files:
            file.close()

    def _add(self, key: int, payload: bytes) -> None:
        rec, idx = self._files
        idx.write(index_lines([key], [rec.tell()]))
        write_record(rec, payload)


class FolderWriter:
    """`folder/<name>/<number>.jpg`: a name for each label, and the picture's number in its source, from 1."""

    def __init__(self, folder: pathlib.Path, names: tuple[str, ...]):
        self._folder, self._names = folder, names

    def open(self, state: dict[str, Any]) -> None:
        """Files that an interrupted conversion wrote after its last state are written again."""

    def write(self, number: int, label: int, image: bytes) -> None:
        path = self._folder / self._names[label] / file_name(number, image)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(image)

    def state(self) -> dict[str, Any]:
        # Thousands of files: one call for all of them.
        os.sync()
        return {}


def file_name(number: int, image: bytes) -> str:
    """The name of a file for an encoded picture; its end, from the first bytes, is `.jpg` if they tell nothing."""
    extension = next((end for start, end in _EXTENSIONS.items() if image.startswith(start)), ".jpg")
    return f"{number + 1:08d}{extension}"
