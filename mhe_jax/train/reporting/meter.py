"""Reads metrics back a few dispatches late, so that the device never waits for the host."""

import collections
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

import jax

from mhe_jax.train.reporting import metrics

# Dispatches in flight before the oldest is read: enough to hide the host, few enough to bound memory.
_LAG = 2


class NonFiniteLossError(ArithmeticError):
    """The training loss or a parameter became NaN or infinite in the steps `first` to `last`, counted from 1."""

    def __init__(self, message: str, first: int, last: int):
        super().__init__(message)
        self.first, self.last = first, last


class _Dispatch(threading.Thread):
    """Notes when the devices are done with a dispatch, while the host does something else."""

    def __init__(self, sums: metrics.Sums):
        super().__init__(name="dispatch", daemon=True)
        self.sums, self.done = sums, 0.0
        self.start()

    def run(self) -> None:
        # What went wrong is raised where the sums are read.
        with contextlib.suppress(Exception):
            jax.block_until_ready(self.sums)
        self.done = time.perf_counter()


class Meter:
    """Collects the sums of train dispatches and reports a window of them every `log_every` steps."""

    def __init__(
        self,
        start_step: int,
        log_every: int,
        report: Callable[[int, dict[str, float]], None],
        peak_step_seconds: float | None = None,
    ):
        """`report(step, values)` gets the window's means and rates.

        The rates are `examples_per_second`, `data_wait` if `fetching` was used, and `flops_utilization` where it is
        known how long a step takes at the devices' peak, `peak_step_seconds`; where that changes within a window it
        counts as it is at the end.
        """
        self._pending: collections.deque = collections.deque()
        self._log_every, self._report = log_every, report
        self._window: metrics.Sums = {}
        # The updates up to `_sound_step` are known to be finite.
        self._read_step = self._window_step = self._sound_step = start_step
        self._clock, self._seconds = time.perf_counter(), 0.0
        self.peak_step_seconds = peak_step_seconds
        self._fetches: collections.deque = collections.deque()
        self._fetched, self._waited = False, 0.0

    @contextlib.contextmanager
    def fetching(self, sums: metrics.Sums) -> Iterator[None]:
        """Around getting the data of the next dispatch, after the one that gives `sums` was started.

        `data_wait` is the share of a window's seconds that the host spent here when the devices had nothing left to do.
        """
        self._fetched, dispatch, began = True, _Dispatch(sums), time.perf_counter()
        yield
        self._fetches.append((dispatch, began, time.perf_counter()))

    def add(self, step: int, sums: metrics.Sums) -> None:
        """Takes the device-side sums of the dispatch that ended at `step`.

        Raises:
          NonFiniteLossError: naming the steps, at most a few dispatches after they ran.
        """
        self._pending.append((step, sums))
        while len(self._pending) > _LAG:
            self._read()

    def drain(self) -> None:
        """Reads everything that is still in flight."""
        while self._pending:
            self._read()

    def check_parameters(self, step: int, finite: bool) -> None:
        """Takes note whether the parameters after `step` are finite. Raises like `add`."""
        if not finite:
            raise NonFiniteLossError(f"the parameters are not finite after step {step}", self._sound_step + 1, step)
        self._sound_step = step

    def finish(self) -> None:
        """Reads everything and reports the last window, however short."""
        self.drain()
        if self._window:
            self._close_window()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Reads what is in flight, then keeps the time of the block out of the throughput."""
        self.drain()
        self._seconds += time.perf_counter() - self._clock
        yield
        self._clock = time.perf_counter()

    def _read(self) -> None:
        step, pending = self._pending.popleft()
        sums = jax.device_get(pending)
        total, count = sums["loss"]
        # Some heads know the value of their loss at the logged steps only.
        if count:
            if not math.isfinite(loss := float(total / count)):
                text = f"the loss is {loss} in steps {self._read_step + 1} to {step}"
                raise NonFiniteLossError(text, self._sound_step + 1, step)
            valued = step if count == sums["examples"][0] else step // self._log_every * self._log_every
            # A finite loss speaks for the updates before its own.
            self._sound_step = max(self._sound_step, valued - 1)
        self._window, self._read_step = metrics.merge(self._window, sums), step
        if self._fetches and self._fetches[0][0].sums is pending:
            dispatch, began, ended = self._fetches.popleft()
            dispatch.join()
            self._waited += max(0.0, ended - max(began, dispatch.done))
        if step // self._log_every > self._window_step // self._log_every:
            self._close_window()

    def _close_window(self) -> None:
        now = time.perf_counter()
        seconds = self._seconds + now - self._clock
        examples = float(self._window.pop("examples")[0])
        # The last window may have no step at which the head valued its loss.
        known = {name: pair for name, pair in self._window.items() if pair[1]}
        rates = {"examples_per_second": examples / seconds}
        if self._fetched:
            rates["data_wait"] = self._waited / seconds
        if self.peak_step_seconds is not None:
            rates["flops_utilization"] = (self._read_step - self._window_step) * self.peak_step_seconds / seconds
        self._report(self._read_step, {**metrics.means(known), **rates})
        self._window, self._window_step, self._clock, self._seconds = {}, self._read_step, now, 0.0
        self._waited = 0.0
