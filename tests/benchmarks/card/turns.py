"""Several programs on one accelerator: all compile at once, and each is measured alone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def alone(path: str) -> Iterator[None]:
    """Gives up the shared lock of `compiling` and waits until no other program compiles or is measured."""
    file = os.open(path, os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)


def compiling(path: str) -> int:
    """A lock that any number of programs can hold while they compile; to be closed before `alone`."""
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file
