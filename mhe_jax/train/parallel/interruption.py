"""SIGTERM, SIGINT and SIGUSR1 as a request to save and leave, instead of an end in the middle of a step."""

import os
import signal
import sys
import threading
import time
import types

# EX_TEMPFAIL of sysexits.h: schedulers can be told to queue a job again on it.
EXIT_CODE = 75

# SIGUSR1 is what mpirun passes on without ending itself, and what many jobs tell Slurm to send.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

# A scheduler and the launcher under it may both pass one request on.
_SAME_REQUEST_SECONDS = 3.0


def leave_at_once(code: int | None) -> None:
    """Until an `Interruption` is entered, the signals end the process at once: there is nothing to save.

    Without this, they would end it by themselves, but for the first process of a container, which would not hear them.

    Args:
      code: exit code; None for the usual one, 128 + the signal's number.
    """
    for number in _SIGNALS:
        signal.signal(number, lambda number, frame: sys.exit(128 + number if code is None else code))


class Interruption:
    """While entered, the signals only set `requested`; one that comes later ends the process at once."""

    def __init__(self) -> None:
        self.requested = False
        self._first = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _request(self, number: int, frame: types.FrameType | None) -> None:
        if not self.requested:
            self.requested, self._first = True, time.monotonic()
        elif time.monotonic() - self._first > _SAME_REQUEST_SECONDS:
            # Not by the signal itself, which the first process of a container cannot be ended by.
            os._exit(128 + number)
