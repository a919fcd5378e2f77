"""Ends a run that has stopped moving, and says where each of its threads was."""

import faulthandler
import sys
import threading
import time

from mhe_jax.train.parallel.ending import end_at_once, say

EXIT_CODE = 1


class Watchdog:
    """While entered, `beat` has to be called at least every `seconds`, or the process ends with all its stacks.

    A collective that a peer never joins, a file server that does not answer and a data worker that is stuck all look
    the same from outside: nothing happens, at full price. 0 seconds never end anything.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._last, self._ended = time.monotonic(), threading.Event()

    def __enter__(self) -> "Watchdog":
        if self._seconds:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def beat(self) -> None:
        """Says that the run moves."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(max(0.0, self._last + self._seconds - time.monotonic())):
            if time.monotonic() - self._last >= self._seconds:
                self._end()

    def _end(self) -> None:
        message = f"error: no step and no batch ended for {self._seconds:g} s (config.stall_seconds); all stacks:"
        # Not sys.exit: the main thread is stuck.
        if say(message):
            faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        end_at_once(EXIT_CODE)
