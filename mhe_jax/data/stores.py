"""Files read by ranges of bytes, on disks and in object stores: a path with `://` in it is one of fsspec's.

Stores are opened anew in each process, when it first reads; a package that one of them needs is named where it is
missing.
"""

import contextlib
import functools
import glob
import os
import pathlib
import re
import weakref
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from mhe_jax.data.dataset import DataError

_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BRACES = re.compile(r"\{([^{}]*)\}")


def is_remote(path: str) -> bool:
    """Whether a path is that of a store: gs://, s3://, memory:// and the like."""
    return "://" in path


def file_system(path: str) -> tuple[Any, str]:
    """fsspec's file system of a path with `://`, and the path in it.

    Raises:
      DataError: naming the package that is not installed, or that there is no such kind of store.
    """
    import fsspec

    with _told(path, "opened"):
        try:
            return fsspec.core.url_to_fs(path)
        except ImportError as error:
            raise DataError(f"{path} cannot be read without another package: {one_reason(error)}") from None


def one_reason(error: Exception) -> str:
    """What an error of a library says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextlib.contextmanager
def _told(path: str, done: str, kind: Callable[[str], Exception] = DataError) -> Iterator[None]:
    """Errors become those of a `kind` that say on one line what could not be done with the path."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # each store has errors of its own, for keys, projects and addresses
        raise kind(f"{path} cannot be {done}: {one_reason(error)}") from error


class RangedFile:
    """A file that is read by offset. Picklable: each process opens it when it first reads; threads may share it.

    Raises:
      DataError: when it is first used, if it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = str(path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    @functools.cached_property
    def _descriptor(self) -> int:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from error
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    @functools.cached_property
    def _stored(self) -> tuple[Any, str]:
        return file_system(self.path)

    def _info(self) -> dict[str, Any]:
        store, path = self._stored
        with _told(self.path, "read"):
            found: dict[str, Any] = store.info(path)
        return found

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return int(self._info()["size"]) if is_remote(self.path) else os.fstat(self._descriptor).st_size

    def version(self) -> tuple[int, str]:
        """Size, and times of change and place on the disk, or what a store says in their stead."""
        if not is_remote(self.path):
            status = os.fstat(self._descriptor)
            return status.st_size, f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        info = self._info()
        times = (info[name] for name in ("etag", "ETag", "mtime", "updated", "LastModified", "created") if name in info)
        return int(info["size"]), str(next(times, ""))

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes, or fewer where the file ends before; OSError if they cannot be read."""
        if not is_remote(self.path):
            return os.pread(self._descriptor, count, offset)
        store, path = self._stored
        with _told(self.path, "read", lambda reason: OSError(0, reason)):
            data: bytes = store.cat_file(path, start=offset, end=offset + count)
        if len(data) > count:
            raise OSError(0, f"the store answers with {len(data):,} bytes where {count:,} were asked for")
        return data

    def open(self) -> BinaryIO:
        """The file from its beginning, for whoever reads most of it."""
        with _told(self.path, "read"):
            if not is_remote(self.path):
                return open(self.path, "rb")
            store, path = self._stored
            file: BinaryIO = store.open(path, "rb", cache_type="readahead")
        return file


def joined(folder: str, name: str) -> str:
    """The path of what lies in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def entries(folder: str) -> dict[str, bool]:
    """Names in a folder, sorted, and whether each is a folder itself; empty if it is none.

    Raises:
      DataError: if it cannot be listed.
    """
    if is_remote(folder):
        store, path = file_system(folder)
        with _told(folder, "listed"):
            found = store.ls(path, detail=True) if store.isdir(path) else []
        below = {info["name"].rstrip("/").rpartition("/")[2]: info["type"] == "directory" for info in found}
        return dict(sorted(below.items()))
    try:
        with os.scandir(folder) as listed:
            return {entry.name: entry.is_dir() for entry in sorted(listed, key=lambda entry: entry.name)}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from error


def is_pattern(path: str) -> bool:
    """Whether a path stands for several, by `*`, `?`, `[...]` or `{...}`, and not for a file of that name."""
    return any(mark in path for mark in "*?[{") and (is_remote(path) or not pathlib.Path(path).exists())


def matching(pattern: str) -> list[str]:
    """The files of a pattern, sorted within each of its alternatives: `{000000..000146}`, `{train,val}`, `*`, `?`.

    Raises:
      DataError: for an alternative that no file matches, naming it.
    """
    found: list[str] = []
    for path in alternatives(pattern):
        if is_remote(path):
            store, inner = file_system(path)
            several = any(mark in inner for mark in "*?[")
            there = sorted(map(str, store.glob(inner))) if several else [inner] * store.exists(inner)
            more = [store.unstrip_protocol(name) for name in there]
        else:
            more = sorted(glob.glob(path)) if any(mark in path for mark in "*?[") else [path] * os.path.exists(path)
        if not more:
            raise DataError(f"config.data.path: there is no file {path}")
        found += more
    return list(dict.fromkeys(found))


def alternatives(pattern: str) -> Iterator[str]:
    """What braces stand for: `a{1,2}` is a1 and a2, `a{08..10}` is a08, a09 and a10, of the width that is written."""
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    bounds = _RANGE.fullmatch(braces[1])
    if bounds:
        first, last = bounds.groups()
        words = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        words = braces[1].split(",")
    for word in words:
        yield from alternatives(pattern[: braces.start()] + word + pattern[braces.end() :])
