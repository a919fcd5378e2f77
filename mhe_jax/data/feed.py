"""Batches for the loop: this process's rows of each step, from arrays on the device or from a stream of files.

Both feeds follow the same order, and the processes' rows, put together in order, are the single-process batch.
"""

import itertools
import math
import os
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.data.dataset import ArraySplit, PairedSplit, Split, StreamSplit
from mhe_jax.data.decode import BadExample
from mhe_jax.data.order import EpochOrder, EvalOrder, example_rng
from mhe_jax.data.text import TextSplit

_ENDLESS = 2**53  # steps of training that a stream offers; the loop stops long before


def train_feed(
    split: Split | TextSplit,
    batch_size: int,
    *,
    seed: int,
    last_batch: str = "drop",
    process_index: int = 0,
    process_count: int = 1,
    num_devices: int = 1,
) -> "Feed":
    """Endless shuffled batches of `batch_size` rows over all processes.

    Raises:
      ValueError: if batches cannot be split evenly over the processes and `num_devices` devices (the length of the mesh
        axes that the batch is split over), or the split has no full batch.
    """
    order = EpochOrder(split.num_examples, batch_size, seed, last_batch)
    return _feed(split, order, seed, process_index, process_count, num_devices)


def eval_feed(
    split: Split | PairedSplit | TextSplit,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    num_devices: int = 1,
) -> "Feed":
    """Every example once, in order; rows that fill the last batch have weight 0. Raises like `train_feed`.

    Of a PairedSplit, the examples are its pictures.
    """
    if isinstance(split, PairedSplit):
        split = split.images
    order = EvalOrder(split.num_examples, batch_size)
    return _feed(split, order, None, process_index, process_count, num_devices)


def _feed(split, order, seed, process_index, process_count, num_devices) -> "Feed":
    divisor = math.lcm(process_count, num_devices)
    if order.batch_size % divisor:
        raise ValueError(
            f"config.global_batch_size is {order.batch_size}; it must be a multiple of {divisor} (devices)"
        )
    rest = order.size(order.steps_per_epoch - 1)
    if rest % divisor:
        raise ValueError(
            f"config.data.last_batch is 'keep' and the last of {order.num_examples} examples make a batch of {rest}, "
            f"which does not divide over {divisor} devices; set last_batch = 'drop' or another global_batch_size"
        )
    if isinstance(split, ArraySplit):
        return ArrayFeed(split, order, process_index, process_count)
    if isinstance(split, TextSplit):
        from mhe_jax.data.text_feed import TextFeed  # which is built on this module's Feed

        return TextFeed(split, order, process_index, process_count)
    return StreamFeed(split, order, seed, process_index, process_count)


class Feed:
    """Batches of one split for one process; see `train_feed` and `eval_feed`.

    bad: the unreadable examples that were met so far by this process; they have weight 0.
    left_out: how many unreadable examples the split had lost before.
    """

    left_out: int = 0

    def __init__(self, order: EpochOrder | EvalOrder, process_index: int, process_count: int):
        self.order = order
        self.num_examples = order.num_examples
        self.batch_size = order.batch_size
        self.steps_per_epoch = order.steps_per_epoch
        self.bad: set[int] = set()
        self._process_index, self._process_count = process_index, process_count

    @property
    def bad_examples(self) -> int:
        """How many unreadable examples this process knows of."""
        return self.left_out + len(self.bad)

    @property
    def resident(self) -> dict[str, np.ndarray]:
        """Arrays that the loop places on the device once."""
        return {}

    def equal_steps(self, step: int) -> int:
        """How many steps from `step` to the epoch's end have batches of one size, and so may be one chunk."""
        left = self.steps_per_epoch - step % self.steps_per_epoch
        return left if left == 1 or self.order.size(step + left - 1) == self.batch_size else left - 1

    def chunk(self, step: int, count: int) -> dict[str, np.ndarray]:
        """This process's rows of steps `step` .. `step + count - 1`: arrays [count, local batch, ...].

        Raises:
          ValueError: if a short batch and full ones would be in one chunk.
        """
        raise NotImplementedError

    @staticmethod
    def batch(resident: dict[str, jax.Array], piece: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """One step of a chunk as {'image' uint8, 'label' int32, 'weight' float32}, traced."""
        return piece

    def close(self) -> None:
        """Stops loading."""

    def _steps(self, step: int, count: int) -> range:
        if len({self.order.size(s) for s in range(step, step + count)}) > 1:
            raise ValueError(f"steps {step} to {step + count - 1} hold a short batch, which must be a chunk of its own")
        return range(step, step + count)


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
        self.close()
        threads = max(1, min(8, (os.cpu_count() or 1) // max(1, self._num_workers)))
        steps = grain.MapDataset.range(step, self._stop).map(self._load_step)
        batches = steps.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
        if self._num_workers:
            batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._num_workers))
        self._iterator = iter(batches)


class _LoadStep:
    """Loads this process's rows of one step; picklable, so that worker processes can run it."""

    def __init__(self, split, order, seed, process_index, process_count):
        self._split, self._order, self._seed = split, order, seed
        self._process_index, self._process_count = process_index, process_count

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        rows = self._order.rows(step)
        local = local_slice(len(rows.index), self._process_index, self._process_count)
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
        filler = next(iter(loaded.values())) if loaded else self._first_readable()
        images, labels = zip(*(loaded.get(place, filler) for place in range(len(weight))), strict=True)
        bad = np.array([index[place] for place in wanted.tolist() if place not in loaded], np.int64)
        return {"image": np.stack(images), "label": np.array(labels, np.int32), "weight": weight, "bad": bad}

    def _first_readable(self) -> tuple[np.ndarray, int]:
        """For a process whose rows of the last evaluation batch are all padding."""
        for index in range(self._split.num_examples):
            try:
                return self._split.load_example(index, None)
            except BadExample as error:
                if self._split.on_bad_example == "raise":
                    raise
                last_error = error
        raise BadExample(f"no example can be read; the last one: {last_error}")


def local_slice(size: int, process_index: int, process_count: int) -> slice:
    """The rows of a batch of `size` that belong to one process: contiguous, in process order."""
    share = size // process_count
    return slice(process_index * share, (process_index + 1) * share)
