"""SIGTERM and SIGINT as a request to save and leave, instead of an end in the middle of a step."""

import os
import signal
import sys
import threading
import time
import types

# EX_TEMPFAIL of sysexits.h: schedulers can be told to queue a job again on it.
EXIT_CODE = 75

# A scheduler and the launcher under it may both pass one request on.
_SAME_REQUEST_SECONDS = 3.0


def leave_at_once() -> None:
    """Until an `Interruption` is entered, the two signals end the process with `EXIT_CODE`: nothing is to be saved."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(EXIT_CODE))


class Interruption:
    """While entered, the two signals only set `requested`; one that comes later ends the process as usual."""

    def __init__(self) -> None:
        self.requested = False
        self._first = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _request(self, number: int, frame: types.FrameType | None) -> None:
        if not self.requested:
            self.requested, self._first = True, time.monotonic()
        elif time.monotonic() - self._first > _SAME_REQUEST_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
