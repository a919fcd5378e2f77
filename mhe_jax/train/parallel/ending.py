"""The end of a process that cannot wait: for its main thread, which may be stuck, or for other processes."""

import contextlib
import os
import select
import sys
from typing import NoReturn


def end_at_once(code: int, message: str = "") -> NoReturn:
    """Ends this process, and the workers that it has started: an ordinary exit would end those too, but may never come.

    Args:
      code: exit code.
      message: a line for standard error, which is left out where nobody reads it.
    """
    try:
        if message:
            say(message)
        # Workers that wait for a parent which is gone would stay for ever. Not imported here: the main thread may be
        # in the middle of an import.
        if processes := sys.modules.get("multiprocessing"):
            for child in processes.active_children():
                child.kill()
    finally:
        os._exit(code)


def say(text: str) -> bool:
    """Writes a line to standard error, unless that would wait or its reader is gone; whether it did.

    Not through sys.stderr, whose lock the main thread may hold for ever.
    """
    with contextlib.suppress(OSError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"{text}\n".encode())
            return True
    return False
