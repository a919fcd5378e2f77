"""Dynamic batching: what single requests ask goes through a model together.

While a batch is computed the next one gathers, and goes when that is done: the busier a server is, the larger its
batches are. Only what finds the model idle waits a little for others.
"""

import asyncio
import collections
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

_PAUSES = 5


class FullError(Exception):
    """More inputs wait than may."""


class Batcher:
    """Gathers inputs into batches and gives each request the answers to its own.

    Args:
      compute: inputs -> one answer each, in their order; called in `executor`, one batch at a time.
      executor: of the model; several batchers may share one.
      max_batch: inputs of a batch.
      max_wait: seconds that an input which finds the model idle waits for others; a fifth of it, where none comes.
      max_queue: inputs that may wait or be computed; those of a request above it are refused.
      seen: is told the size of each batch.
    """

    def __init__(
        self,
        compute: Callable[[list], Sequence],
        executor: Executor,
        max_batch: int,
        max_wait: float,
        max_queue: int,
        seen: Callable[[int], None] = lambda size: None,
    ):
        self._compute, self._executor, self._seen = compute, executor, seen
        self._max_batch, self._max_wait, self._max_queue = max_batch, max_wait, max_queue
        self._waiting: collections.deque[tuple[Any, asyncio.Future]] = collections.deque()
        self._computed = 0
        self._arrived = asyncio.Event()
        self._task: asyncio.Task | None = None

    @property
    def pending(self) -> int:
        """Inputs that wait or are computed."""
        return len(self._waiting) + self._computed

    async def ask(self, inputs: Sequence) -> list:
        """The answers to some inputs, in their order.

        A caller that is cancelled takes its inputs out of the queue.

        Raises:
          FullError: if they are more than may wait; none of them is taken then.
          Exception: what `compute` raised for the batch of one of them.
        """
        if self.pending + len(inputs) > self._max_queue:
            raise FullError(f"{self.pending} inputs wait already")
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        futures = [asyncio.get_running_loop().create_future() for _ in inputs]
        self._waiting.extend(zip(inputs, futures, strict=True))
        self._arrived.set()
        try:
            return await asyncio.gather(*futures)
        except asyncio.CancelledError:
            self._waiting = collections.deque(pair for pair in self._waiting if not pair[1].done())
            raise

    async def close(self) -> None:
        """Ends the work; what waits or is computed is cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        while self._waiting:
            self._waiting.popleft()[1].cancel()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                await self._arrived.wait()
                await self._gathered()
            inputs, futures = self._taken()
            if not inputs:
                continue
            self._computed = len(inputs)
            try:
                self._seen(len(inputs))
                answers: Sequence = await loop.run_in_executor(self._executor, self._compute, inputs)
                pairs = list(zip(futures, answers, strict=True))
            except asyncio.CancelledError:
                for future in futures:
                    future.cancel()
                raise
            except Exception as error:  # whatever it is, whoever asked is told, and the next batch is computed
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            else:
                for future, answer in pairs:
                    if not future.done():
                        future.set_result(answer)
            finally:
                self._computed = 0

    async def _gathered(self) -> None:
        """Returns when a batch is full, nothing has come for a while, or its first input has waited long enough."""
        end, before = time.monotonic() + self._max_wait, 0
        while before < len(self._waiting) < self._max_batch and time.monotonic() < end:
            before = len(self._waiting)
            await asyncio.sleep(self._max_wait / _PAUSES)

    def _taken(self) -> tuple[list, list[asyncio.Future]]:
        """The next batch, without those that nobody waits for any more."""
        inputs: list = []
        futures: list[asyncio.Future] = []
        while self._waiting and len(inputs) < self._max_batch:
            one, future = self._waiting.popleft()
            if not future.done():
                inputs.append(one)
                futures.append(future)
        if not self._waiting:
            self._arrived.clear()
        return inputs, futures
