"""Which entries of a folder are pictures and which are classes: by name and kind, nothing is opened.

Systems and tools leave folders and files of their own among a user's, and some of them are named like pictures
(`._1.jpg` is what macOS knows of 1.jpg). Those are left out everywhere, and told in one line.
"""

import os
import pathlib
import re
import warnings
from typing import AnyStr

from mhe_jax.data.dataset import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
# Hidden ones; those of Synology and QNAP, of macOS's archives, of Windows, of ext4 and of Python.
_STRAY = re.compile(
    r"\..*|@eadir|@tmp|@recycle|@__thumb|#recycle|#snapshot|__macosx|\$recycle\.bin|recycler|system volume information"
    r"|lost\+found|__pycache__",
    re.IGNORECASE | re.DOTALL,
)


def is_stray(name: str) -> bool:
    """Whether a name is one that systems and tools give: hidden, or a folder for thumbnails, waste or snapshots."""
    return _STRAY.fullmatch(name) is not None


def list_folders(folder: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """(names of the folders in a folder, sorted; those left out); raises DataError if it cannot be listed."""
    names = sorted(entry.name for entry in _entries(folder) if entry.is_dir())
    return [name for name in names if not is_stray(name)], [name for name in names if is_stray(name)]


def list_pictures(root: str | os.PathLike[str]) -> tuple[list[bytes], list[str]]:
    """The pictures in a folder and in the folders below it, in the order of torchvision's ImageFolder.

    Links to folders are followed, but not to a folder that they lie in. Pipes, sockets and devices are no pictures, but
    a link that is named like a picture is one, and is not followed: among links to a network disk that would take a
    message for each. What leads to no file is found when it is read.

    Returns:
      Paths relative to `root`; and those left out that are named like pictures or may hold some.

    Raises:
      DataError: if a folder cannot be listed.
    """
    top = os.fsencode(root)
    found: list[tuple[bytes, list[bytes]]] = []
    left_out: list[str] = []
    waiting: list[tuple[bytes, frozenset[tuple[int, int]]]] = [(b"", frozenset())]
    while waiting:
        below, above = waiting.pop()
        folder = os.path.join(top, below) if below else top
        entries, here = _entries(folder), _identity(folder)
        if here in above:
            continue
        names = []
        for entry in entries:
            name, path = os.fsdecode(entry.name), os.path.join(below, entry.name)
            is_named = name.lower().endswith(EXTENSIONS)
            is_folder = entry.is_dir(follow_symlinks=not is_named)
            if not is_folder and not is_named:
                continue
            if is_stray(name) or not (is_folder or entry.is_symlink() or entry.is_file()):
                left_out.append(os.fsdecode(path))
            elif is_folder:
                waiting.append((path, above | {here}))
            else:
                names.append(entry.name)
        found.append((below, sorted(names)))
    # As torchvision, by the whole path of a folder: `a-b` comes between `a` and `a/b`.
    return [os.path.join(below, name) for below, names in sorted(found) for name in names], left_out


def tell_left_out(folder: str | pathlib.Path, left_out: list[str]) -> None:
    """Warns of what was left out, in one line."""
    if left_out:
        some = ", ".join(map(repr, sorted(left_out)[:3])) + ", ..." * (len(left_out) > 3)
        warnings.warn(f"{folder}: left out {len(left_out)} hidden or special files and folders: {some}", stacklevel=3)


def _identity(folder: bytes) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _entries(folder: AnyStr | os.PathLike[AnyStr]) -> list[os.DirEntry[AnyStr]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{os.fsdecode(folder)} cannot be listed: {error.strerror}") from error
