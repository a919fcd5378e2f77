"""What a path names, before it is opened: of a pipe or a device reading might never begin, or never end."""

import os
import pathlib
import stat

from mhe_jax.data.dataset import DataError


def require_file(path: str | pathlib.Path) -> None:
    """Raises DataError, naming the path, unless it is that of a file."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: cannot be read: it is a folder, a pipe or a device, not a file")
