"""SIGTERM, SIGINT and SIGUSR1 as a request to save and leave, instead of an end in the middle of a step.

A handler in Python runs when the main thread comes back to Python, which may be after a compilation of minutes, or
never, if a collective waits for a peer; and an exception that it raises can be lost, inside a callback of a library.
So the handlers do nothing: the C part of Python's signal handling writes each signal into a pipe at once, and a thread
that reads from it acts.
"""

import os
import signal
import threading
import time
import types
from collections.abc import Callable

from mhe_jax.train.parallel.ending import end_at_once, say

# EX_TEMPFAIL of sysexits.h: schedulers can be told to queue a job again on it.
EXIT_CODE = 75

# SIGUSR1 is what mpirun passes on without ending itself, and what many jobs tell Slurm to send.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

# A scheduler and the launcher under it may both pass one request on.
_SAME_REQUEST_SECONDS = 3.0

Receiver = Callable[[int], None]


def leave_at_once(code: int | None) -> None:
    """Until an `Interruption` is entered, the signals end the process at once: there is nothing to save.

    Without this, they would end it by themselves, but for the first process of a container, which would not hear them.

    Args:
      code: exit code; None for the usual one, 128 + the signal's number.
    """
    _listener().listen(lambda number: end_at_once(128 + number if code is None else code))


class Interruption:
    """While entered, the signals only set `requested`; one that comes later ends the process at once.

    It then ends with `EXIT_CODE` too: a run continues from its last checkpoint, however it was ended. Only while the
    last checkpoint is being written, which the run says by `saving`, the second is told to wait; the third ends.
    """

    def __init__(self) -> None:
        self.requested = False
        self.saving = False
        self._told = False
        self._last = 0.0
        self._release: Callable[[], None] = lambda: None

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._release = _listener().listen(self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _request(self, number: int) -> None:
        last, self._last = self._last, time.monotonic()
        if not self.requested:
            self.requested = True
            return
        if self._last - last < _SAME_REQUEST_SECONDS:
            self._last = last
            return
        again = f"{signal.Signals(number).name} again"
        if self.saving and not self._told:
            self._told = True
            say(f"{again}: the last checkpoint is being written; the next signal ends at once")
        else:
            # Not by the signal itself, which the first process of a container cannot be ended by.
            end_at_once(EXIT_CODE, f"{again}: ended at once; the checkpoints that are complete stay")


class _Listener:
    """The pipe, and the thread that calls the newest receiver with the number of each signal."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._receivers: list[Receiver] = []
        threading.Thread(target=self._read, name="signals", daemon=True).start()
        # A child has a copy of the pipe's end, and its signals are not this process's.
        os.register_at_fork(after_in_child=_forget)

    def listen(self, receiver: Receiver) -> Callable[[], None]:
        """Sends the signals to `receiver`, until what this returns is called."""
        self._receivers.append(receiver)
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        descriptor = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

        def release() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(descriptor)
            self._receivers.remove(receiver)

        return release

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        # A library's event loop may hold the place of the pipe for a while; it calls this handler without delay.
        descriptor = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        if descriptor != self._writing:
            signal.set_wakeup_fd(descriptor)
            os.write(self._writing, bytes([number]))

    def _read(self) -> None:
        while True:
            (number,) = os.read(self._reading, 1)
            if number in _SIGNALS and self._receivers:
                self._receivers[-1](number)


_the_listener: list[_Listener] = []


def _listener() -> _Listener:
    if not _the_listener:
        _the_listener.append(_Listener())
    return _the_listener[0]


def _forget() -> None:
    if signal.getsignal(signal.SIGTERM) == _the_listener[0]._handle:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
