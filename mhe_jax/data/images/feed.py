"""Batches of pictures: gathered on the device from arrays that lie there, or loaded ahead from files."""

import itertools
import os
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.data.dataset import ArraySplit, BadExample, StreamSplit
from mhe_jax.data.feed import Feed, local_slice
from mhe_jax.data.order import EpochOrder, EvalOrder, example_rng

_ENDLESS = 2**53  # steps of training that a stream offers; the loop stops long before


class ArrayFeed(Feed):
    """Feeds indices; the images lie on the device and are gathered there."""

    def __init__(self, split: ArraySplit, order: EpochOrder | EvalOrder, process_index: int, process_count: int):
        super().__init__(order, process_index, process_count)
        self._split = split
        self.left_out = split.bad_examples

    @property
    def resident(self) -> dict[str, np.ndarray]:
        return {"image": self._split.images, "label": self._split.labels}

    def chunk(self, step: int, count: int) -> dict[str, np.ndarray]:
        rows = [self.order.rows(s) for s in self._steps(step, count)]
        local = local_slice(len(rows[0].index), self._process_index, self._process_count)
        return {
            "index": np.stack([row.index[local] for row in rows]).astype(np.int32),
            "weight": np.stack([row.weight[local] for row in rows]),
        }

    @staticmethod
    def batch(resident: dict[str, jax.Array], piece: dict[str, jax.Array]) -> dict[str, jax.Array]:
        # Indices come from the order and are in range: 'clip' spares the check for others.
        gathered = {name: jnp.take(resident[name], piece["index"], axis=0, mode="clip") for name in ("image", "label")}
        return {**gathered, "weight": piece["weight"]}


class StreamFeed(Feed):
    """Feeds decoded images, loaded ahead by Grain in threads or worker processes, in order, from any step."""

    def __init__(
        self,
        split: StreamSplit,
        order: EpochOrder | EvalOrder,
        seed: int | None,
        process_index: int,
        process_count: int,
    ):
        super().__init__(order, process_index, process_count)
        self._num_workers = split.num_workers
        self._load_step = _LoadStep(split, order, seed, process_index, process_count)
        self._stop = order.steps_per_epoch if seed is None else _ENDLESS
        self._iterator: Any = None
        self._next_step = 0

    def chunk(self, step: int, count: int) -> dict[str, np.ndarray]:
        steps = self._steps(step, count)
        if self._iterator is None or step != self._next_step:
            self._start(step)
        pieces = list(itertools.islice(self._iterator, len(steps)))
        self._next_step = step + count
        if self._next_step == self._stop:
            self.close()
        self.bad.update(*(piece.pop("bad").tolist() for piece in pieces))
        if count == 1:
            return {name: value[None] for name, value in pieces[0].items()}
        return {name: np.stack([piece[name] for piece in pieces]) for name in pieces[0]}

    def close(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
        self._iterator = None

    def _start(self, step: int) -> None:
        import grain  # slow to import

        self.close()
        threads = max(1, min(8, (os.cpu_count() or 1) // max(1, self._num_workers)))
        steps = grain.MapDataset.range(step, self._stop).map(self._load_step)
        batches = steps.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
        if self._num_workers:
            self._warn_of_little_shared_memory(step)
            batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._num_workers))
        self._iterator = iter(batches)

    def _warn_of_little_shared_memory(self, step: int) -> None:
        """Worker processes hand batches over in /dev/shm, and die of a bus error when it is full."""
        try:
            there = os.statvfs("/dev/shm")
        except OSError:  # another operating system
            return
        share = self.order.size(step) // self._load_step.process_count
        image, _ = self._load_step.first_readable()
        wanted, free = 2 * self._num_workers * share * image.nbytes, there.f_bavail * there.f_frsize
        if wanted > free:
            warnings.warn(
                f"config.data.num_workers is {self._num_workers}: the workers want {wanted / 2**20:,.0f} MiB of "
                f"/dev/shm, where {free / 2**20:,.0f} MiB are free: give a container more (--shm-size), or take fewer",
                stacklevel=2,
            )


class _LoadStep:
    """Loads this process's rows of one step; picklable, so that worker processes can run it."""

    def __init__(self, split, order, seed, process_index, process_count):
        self._split, self._order, self._seed = split, order, seed
        self._process_index, self.process_count = process_index, process_count

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        rows = self._order.rows(step)
        local = local_slice(len(rows.index), self._process_index, self.process_count)
        index, weight = rows.index[local], rows.weight[local].copy()
        wanted = np.flatnonzero(weight)
        loaded: dict[int, tuple[np.ndarray, int]] = {}
        last_error = None
        for place in wanted.tolist():
            rng = None if self._seed is None else example_rng(self._seed, rows.epoch, int(index[place]))
            try:
                loaded[place] = self._split.load_example(int(index[place]), rng)
            except BadExample as error:
                if self._split.on_bad_example == "raise":
                    raise
                last_error, weight[place] = error, 0.0
        if len(wanted) and not loaded:
            raise BadExample(f"no example of step {step} can be read; the last one: {last_error}")
        # Rows of weight 0 are filled with a good example: batch statistics then see no artificial image.
        filler = next(iter(loaded.values())) if loaded else self.first_readable()
        images, labels = zip(*(loaded.get(place, filler) for place in range(len(weight))), strict=True)
        bad = np.array([index[place] for place in wanted.tolist() if place not in loaded], np.int64)
        return {"image": np.stack(images), "label": np.array(labels, np.int32), "weight": weight, "bad": bad}

    def first_readable(self) -> tuple[np.ndarray, int]:
        """One example: for a process whose rows of the last evaluation batch are all padding, and to know the size."""
        for index in range(self._split.num_examples):
            try:
                return self._split.load_example(index, None)
            except BadExample as error:
                if self._split.on_bad_example == "raise":
                    raise
                last_error = error
        raise BadExample(f"no example can be read; the last one: {last_error}")
