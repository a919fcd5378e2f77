"""Batches of pictures that are loaded from files ahead of time."""

import collections
import dataclasses
import weakref

import jax
import numpy as np

from mhe_jax.data.dataset import BadExample, DataError, StreamSplit
from mhe_jax.data.feed import Feed, local_slice
from mhe_jax.data.images.workers import Loader, Slots, Task, Workers, cores
from mhe_jax.data.order import EpochOrder, EvalOrder

_ENDLESS = 2**53  # steps of training that a stream offers; the loop stops long before
_MOST_THREADS = 8
_SMALLEST_PIECE, _LARGEST_PIECE = 8, 32  # rows that a worker loads at a time
_LENT = 2  # slots that whoever takes batches may keep
_BAD_STEPS = 100  # one after the other, of which nothing can be read, end the run


@dataclasses.dataclass
class _Batch:
    """A step that is being loaded into a slot; rows from `real` on are padding."""

    step: int
    slot: int
    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    weight: np.ndarray
    real: int
    unfinished: int
    bad: dict[int, str] = dataclasses.field(default_factory=dict)
    errors: dict[int, Exception] = dataclasses.field(default_factory=dict)


class StreamFeed(Feed):
    """Feeds decoded images, loaded ahead by threads or worker processes, in order, from any step.

    The image array of a chunk of one step is the memory that it was loaded into, which is used again when nothing
    refers to it any more. Workers stay until `close`, from one evaluation to the next too.

    processes_here: how many processes of the run share this machine, and the workers of its config.
    """

    streamed = True

    def __init__(
        self,
        split: StreamSplit,
        order: EpochOrder | EvalOrder,
        seed: int | None,
        process_index: int,
        process_count: int,
        processes_here: int = 1,
    ):
        super().__init__(order, process_index, process_count)
        self._split, self._seed = split, seed
        self._stop = order.steps_per_epoch if seed is None else _ENDLESS
        own = cores(processes_here)
        several = own if split.num_workers == -1 else max(1, split.num_workers // processes_here)
        self.num_workers = several if split.num_workers else min(own, _MOST_THREADS)
        self._workers: Workers | None = None
        self._next_step: int | None = None
        self._bad_steps = 0  # the last ones in a row of which nothing could be read

    @property
    def resident(self) -> dict[str, np.ndarray]:
        many = self._split.many
        return many.resident if many is not None and self._seed is None else {}

    @staticmethod
    def batch(resident: dict[str, jax.Array], piece: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {**piece, **resident}

    def chunk(self, step: int, count: int) -> dict[str, np.ndarray]:
        steps = self._steps(step, count)
        if self._workers is None:
            self._workers = self._start()
        if step != self._next_step:
            self._begin(self._workers, step)
        self._next_step = None  # after an error all begins anew
        if count == 1:
            chunk = {name: value[None] for name, value in self._take(self._workers, lend=True).items()}
        else:
            first = self._take(self._workers)
            chunk = {name: np.empty((count, *value.shape), value.dtype) for name, value in first.items()}
            for place in range(len(steps)):
                for name, value in (self._take(self._workers) if place else first).items():
                    chunk[name][place] = value
        self._next_step = step + count
        return chunk

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()
        self._workers = self._next_step = None

    def _start(self) -> Workers:
        self._example = self._first_readable()
        rows = self.batch_size // self.process_count
        self._piece = min(max(-(-rows // self.num_workers), _SMALLEST_PIECE), _LARGEST_PIECE)
        # Two pieces for each worker are on their way, and at least two batches.
        self._num_slots = _LENT + max(2, -(-2 * self.num_workers * self._piece // rows))
        self._slots = Slots.make(self._num_slots, rows, self._example[0].shape)
        self._free = collections.deque(range(self._num_slots))
        self._coming: collections.deque[_Batch] = collections.deque()
        loader = Loader(self._split, self._slots, self._seed)
        return Workers(loader, self.num_workers, processes=self._split.num_workers != 0)

    def _begin(self, workers: Workers, step: int) -> None:
        """Has `step` and what follows loaded; what was on its way before is waited for and forgotten."""
        for batch in self._coming:
            self._finish(workers, batch)
            self._free.append(batch.slot)
        self._coming.clear()
        self._next_asked = step
        self._ask(workers)

    def _ask(self, workers: Workers) -> None:
        """Has the next steps loaded into all slots that are free."""
        while self._free and self._next_asked < self._stop:
            slot, step = self._free.popleft(), self._next_asked
            rows = self.order.rows(step)
            local = local_slice(len(rows.index), self.process_index, self.process_count)
            index, weight = rows.index[local], rows.weight[local].copy()
            images, labels, indices = (part[: len(index)] for part in self._slots.batch(slot))
            indices[:] = index
            if rows.copy is not None:
                indices += rows.copy[local] * self.num_examples
            real = int(np.count_nonzero(weight))
            begins = range(0, real, self._piece)
            self._coming.append(_Batch(step, slot, images, labels, indices, weight, real, len(begins)))
            for begin in begins:
                workers.submit(Task(slot, begin, min(begin + self._piece, real), rows.epoch))
            self._next_asked = step + 1

    def _finish(self, workers: Workers, batch: _Batch) -> None:
        """Waits until all of a batch has been loaded or failed."""
        by_slot = {other.slot: other for other in self._coming}
        while batch.unfinished:
            done = workers.next()
            found = by_slot[done.task.slot]
            found.unfinished -= 1
            found.bad.update(done.bad)
            if done.error is not None:
                found.errors[done.task.begin] = done.error

    def _take(self, workers: Workers, lend: bool = False) -> dict[str, np.ndarray]:
        """The next step; the caller may keep the images if `lend`, and otherwise until the next call."""
        self._ask(workers)
        batch = self._coming[0]
        self._finish(workers, batch)
        if batch.errors:
            raise batch.errors[min(batch.errors)]
        self._fill(batch)
        codes, many = self._split.code_of_label, self._split.many
        labels = batch.labels.copy() if codes is None else codes[batch.labels]
        if codes is not None and (labels < 0).any():
            row = int(np.argmax(labels < 0))
            raise DataError(
                f"example {batch.indices[row] % self.num_examples} is of the data's class {batch.labels[row]}, which "
                "this run has retired or not trained on: take its examples out"
            )
        self._coming.popleft()
        images = batch.images
        lent = self._num_slots - len(self._free) - len(self._coming) - 1
        if lend and lent < _LENT:
            # Of all that numpy makes of an array, this is what keeps the memory.
            owner = images
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            weakref.finalize(owner, self._free.append, batch.slot).atexit = False
        else:
            images = images.copy()
            self._free.append(batch.slot)
        found = {"label": labels}
        if many is not None:
            found = {**many.of(labels, self._seed is None), "index": batch.indices.copy()}
        return {"image": images, **found, "weight": batch.weight}

    def _fill(self, batch: _Batch) -> None:
        """Rows of weight 0 get a good example: batch statistics then see no artificial image.

        Raises:
          BadExample: if nothing can be read any more.
        """
        self.bad.update((batch.indices[list(batch.bad)] % self.num_examples).tolist())
        batch.weight[list(batch.bad)] = 0.0
        good = np.flatnonzero(batch.weight)
        if len(good):
            self._bad_steps = 0
        elif batch.real:
            self._bad_steps += 1
            if self._bad_steps >= _BAD_STEPS:
                last = batch.bad[max(batch.bad)]
                raise BadExample(f"no example of the last {self._bad_steps} steps can be read; the last one: {last}")
        empty = np.flatnonzero(batch.weight == 0)
        if len(empty):
            image, label = (batch.images[good[0]], batch.labels[good[0]]) if len(good) else self._example
            batch.images[empty], batch.labels[empty] = image, label

    def _first_readable(self) -> tuple[np.ndarray, int]:
        """One example: for a process whose rows of the last evaluation batch are all padding, and to know the size."""
        for index in range(self._split.num_examples):
            try:
                return self._split.load_example(index, None)
            except BadExample as error:
                if self._split.on_bad_example == "raise":
                    raise
                last_error = error
        raise BadExample(f"no example can be read; the last one: {last_error}")
