"""Writing many pictures into a folder that appears when it is complete, and that an interruption does not lose."""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tqdm

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.picture_writers import PictureWriter
from mhe_jax.data.images import decode
from mhe_jax.data.images.examples import Source

PROGRESS = "progress.json"
_BLOCK = 1024  # pictures between two states on the disk


@contextlib.contextmanager
def partial_folder(dest: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder `dest`.partial, of this process alone, which becomes `dest` when the block ends without an error.

    Raises:
      DataError: if another process holds it, or it has content that no conversion left.
    """
    partial = dest.with_name(f"{dest.name}.partial")
    partial.mkdir(exist_ok=True)
    if any(partial.iterdir()) and not (partial / PROGRESS).is_file():
        raise DataError(f"{partial} holds something else than an unfinished conversion: remove it")
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{partial} is being written by another process") from error
        yield partial
        (partial / PROGRESS).unlink()
        partial.rename(dest)
    finally:
        os.close(descriptor)


def read_pictures(
    source: Source, order: np.ndarray, title: str, start: int = 0
) -> Iterator[tuple[int, tuple[bytes, int, tuple[int, int]] | decode.BadExample]]:
    """Reads and decodes in threads, with a progress bar.

    Yields:
      For each index in order[start:], the index and either (encoded picture, label, its height and width) or what is
      wrong with it.
    """

    def attempt(index: int) -> tuple[bytes, int, tuple[int, int]] | decode.BadExample:
        try:
            data, label, where = source.read(index)
            return data, label, decode.decode(data, 3, where).shape[:2]
        except decode.BadExample as error:
            return error

    # disable=None shows the bar on a terminal only.
    with (
        concurrent.futures.ThreadPoolExecutor() as pool,
        tqdm.tqdm(desc=title, total=len(order), initial=start, disable=None, leave=False) as bar,
    ):
        for begin in range(start, len(order), _BLOCK):
            indices = order[begin : begin + _BLOCK].tolist()
            for index, result in zip(indices, pool.map(attempt, indices), strict=True):
                yield index, result
                bar.update()


def write_pictures(
    source: Source,
    order: np.ndarray,
    writer: PictureWriter,
    partial: pathlib.Path,
    fingerprint: str,
    on_bad_example: str,
) -> tuple[dict[int, str], tuple[int, int]]:
    """Writes the pictures with the indices `order`, from where an interrupted call with the same arguments stopped.

    Args:
      partial: the folder of `partial_folder`, where the progress is kept.
      fingerprint: of the source and of what is made of it.
      on_bad_example: 'raise' for an unreadable picture or 'skip' it.

    Returns:
      A message for each index that was left out, and the height and width of the first picture.

    Raises:
      DataError: if the folder has the progress of another conversion.
      decode.BadExample: with 'raise', for the first unreadable picture; with 'skip', if none can be read.
    """
    path = partial / PROGRESS
    progress: dict[str, Any] = {"fingerprint": fingerprint, "next": 0, "bad": [], "size": None, "writer": {}}
    if path.is_file():
        progress = _load(path)
        if progress["fingerprint"] != fingerprint:
            raise DataError(f"{partial} holds an unfinished conversion of something else: remove it")
    bad, size = dict(progress["bad"]), progress["size"]
    writer.open(progress["writer"])
    start = done = progress["next"]
    _save(path, progress)
    for done, (index, result) in enumerate(read_pictures(source, order, str(partial), start), start + 1):
        if isinstance(result, decode.BadExample):
            if on_bad_example == "raise":
                raise result
            bad[index] = str(result)
        else:
            data, label, found = result
            size = size or found
            writer.write(index, label, data)
        if done % _BLOCK == 0 or done == len(order):
            state = {"next": done, "bad": list(bad.items()), "size": size, "writer": writer.state()}
            _save(path, {"fingerprint": fingerprint, **state})
    if size is None:
        raise decode.BadExample(f"no picture can be read; the last one: {list(bad.values())[-1]}")
    return bad, (size[0], size[1])


def fingerprint_of(*parts: object) -> str:
    """A hash of arrays, bytes, words and numbers."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.tobytes() if isinstance(part, np.ndarray) else part if isinstance(part, bytes) else str(part)
        data = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        hashed.update(b"%d\n" % len(data) + data)
    return hashed.hexdigest()


def _load(path: pathlib.Path) -> dict[str, Any]:
    try:
        progress = json.loads(path.read_bytes())
        done, bad, writer = progress["next"], progress["bad"], progress["writer"]
        if type(done) is int and done >= 0 and isinstance(writer, dict) and {"fingerprint", "size"} <= set(progress):
            dict(bad)
            return progress
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise DataError(f"{path} is damaged, so that the conversion cannot go on: remove {path.parent} to begin again")


def _save(path: pathlib.Path, progress: dict) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w") as file:
        json.dump(progress, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
