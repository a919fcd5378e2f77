"""Files before they are read: what a path names, as of a pipe or a device reading might never end; arrays on disk."""

import os
import pathlib
import stat

import numpy as np

from mhe_jax.data.dataset import DataError


def require_file(path: str | pathlib.Path) -> None:
    """Raises DataError, naming the path, unless it is that of a file."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: cannot be read: it is a folder, a pipe or a device, not a file")


def mapped_array(path: str | pathlib.Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory; raises DataError, naming the path, if it cannot be read as one."""
    require_file(path)
    with open(path, "rb") as file:
        begins = file.read(len(np.lib.format.MAGIC_PREFIX))
    if begins != np.lib.format.MAGIC_PREFIX:  # numpy would open archives and pickles under this name, too
        raise DataError(f"{path} is not a readable .npy file: it begins with {begins!r}")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OverflowError) as error:
        raise DataError(f"{path} is not a readable .npy file: {' '.join(str(error).split())}") from None
