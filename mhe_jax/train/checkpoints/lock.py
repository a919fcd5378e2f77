"""One run at a time in a workdir: two would delete each other's checkpoints."""

import contextlib
import fcntl
import os
import pathlib
import socket
import time
from collections.abc import Iterator

# A scheduler may start a run again while the processes of the last one are still being taken down.
_PATIENCE = 5.0  # seconds


class InUseError(OSError):
    """Another run writes to the workdir; it may be about to end."""


@contextlib.contextmanager
def held(workdir: pathlib.Path) -> Iterator[None]:
    """Holds `<workdir>/run.lock`; the operating system lets go of it when the process dies, however it dies.

    A POSIX record lock: it holds across the hosts of a shared file system, and children do not inherit it.

    Raises:
      InUseError: naming the run that holds it.
      OSError: if the folder cannot be written, or its file system has no locks.
    """
    path = workdir / "run.lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise OSError(f"workdir {workdir} cannot be written: {error}; choose another --workdir") from error
    with file:
        _acquire(file, workdir)
        try:
            file.truncate(0)
            file.write(f"host {socket.gethostname()}, process {os.getpid()}, since {time.strftime('%F %T')}\n")
            file.flush()
        except OSError as error:
            raise OSError(f"workdir {workdir} cannot be written: {error}") from error
        yield


def _acquire(file, workdir: pathlib.Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                file.seek(0)
                holder = file.read().strip() or "which has not said its name yet"
                message = f"workdir {workdir} is in use by another run ({holder}): end it, or choose another --workdir"
                if holder.startswith("host ") and not holder.startswith(f"host {socket.gethostname()},"):
                    message += f"; if that host has died and its file server still keeps the lock, remove {file.name}"
                raise InUseError(message) from None
            time.sleep(0.1)
        except OSError as error:
            raise OSError(f"workdir {workdir} cannot be locked: {error}; choose one on another file system") from error
