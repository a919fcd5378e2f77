"""SIGTERM and SIGINT as a request to save and leave, instead of an end in the middle of a step."""

import signal
import threading
import types

# EX_TEMPFAIL of sysexits.h: schedulers can be told to queue a job again on it.
EXIT_CODE = 75


class Interruption:
    """While entered, the two signals only set `requested`; a second one ends the process as usual."""

    def __init__(self) -> None:
        self.requested = False
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
        self.requested = True
        signal.signal(number, signal.SIG_DFL)
