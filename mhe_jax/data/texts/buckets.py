"""Batches of documents of about one length, so that little is padded, in a few static lengths."""

import dataclasses
import functools

import numpy as np

from mhe_jax.data.order import EpochOrder, EvalOrder, Rows

_SHORTEST = 16  # of the default buckets: below, a step costs the same


def bucket_lengths(chosen: tuple[int, ...], max_length: int) -> tuple[int, ...]:
    """The lengths that batches are padded to, ascending: those chosen below max_length, and max_length itself.

    Without a choice 16, 32, 64, ...: each is compiled once, when the first batch of that length comes.

    Raises:
      ValueError: for a length below 1.
    """
    if any(length < 1 for length in chosen):
        raise ValueError(f"config.data.bucket_lengths is {chosen}; every length must be at least 1")
    powers = (_SHORTEST * 2**i for i in range(max_length.bit_length()))
    return (*sorted({length for length in (chosen or powers) if length < max_length}), max_length)


def fit(buckets: tuple[int, ...], longest: np.ndarray) -> np.ndarray:
    """The smallest bucket that holds each length."""
    return np.asarray(buckets)[np.searchsorted(buckets, longest)]


def training_order(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int, sort_window: int, last_batch: str
) -> np.ndarray:
    """The documents of an epoch, batch after batch, int64: each once, but for those that 'drop' leaves out.

    The documents are permuted and cut into windows of `sort_window` batches; each window is sorted by length and cut
    into batches, and the batches of all windows are shuffled. What is left after the full batches, by chance and not by
    length, is the last batch of 'keep'. sort_window = 1 is a plain shuffle, as `order.EpochOrder`.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    full = len(order) // batch_size * batch_size
    if sort_window > 1:
        head, window = order[:full], np.arange(full) // (sort_window * batch_size)
        batches = head[np.lexsort((lengths[head], window))].reshape(-1, batch_size)
        order[:full] = batches[generator.permutation(len(batches))].ravel()
    return order if last_batch == "keep" else order[:full]


@dataclasses.dataclass(frozen=True)
class _Epoch:
    """index, weight: of every row of every step; length, run_end: of every step, T and the first step unlike it."""

    index: np.ndarray
    weight: np.ndarray
    length: np.ndarray
    run_end: np.ndarray


class LengthOrder:
    """Which documents each step sees and how long its batch is: a pure function of (seed, step).

    Training follows `training_order`; evaluation goes once through all documents, the shortest first, and fills the
    last batch with the shortest document at weight 0.
    """

    def __init__(self, order: EpochOrder | EvalOrder, lengths: np.ndarray, buckets: tuple[int, ...], sort_window: int):
        self._order, self._lengths, self._buckets, self._sort_window = order, lengths, buckets, sort_window
        # Two, for a reader that looks back over an epoch's end.
        self._plan = functools.lru_cache(maxsize=2)(self._make_plan)

    def rows(self, step: int) -> Rows:
        """The documents of a step over all processes."""
        epoch, place = divmod(step, self._order.steps_per_epoch)
        plan, start = self._plan(epoch), place * self._order.batch_size
        here = slice(start, start + self._order.batch_size)
        return Rows(plan.index[here], plan.weight[here], epoch)

    def length(self, step: int) -> int:
        """T of a step: the smallest bucket that holds its longest document."""
        epoch, place = divmod(step, self._order.steps_per_epoch)
        return int(self._plan(epoch).length[place])

    def equal_steps(self, step: int) -> int:
        """How many steps from `step` on, within its epoch, have batches of one shape."""
        epoch, place = divmod(step, self._order.steps_per_epoch)
        return int(self._plan(epoch).run_end[place]) - place

    def _make_plan(self, epoch: int) -> _Epoch:
        order, batch_size, steps = self._order, self._order.batch_size, self._order.steps_per_epoch
        if isinstance(order, EpochOrder):
            chosen = order.chosen(epoch)
            lengths = self._lengths if chosen is None else self._lengths[chosen]
            index = training_order(lengths, batch_size, order.seed, epoch, self._sort_window, order.last_batch)
            index = index if chosen is None else chosen[index]
            weight = np.ones(len(index), np.float32)
        else:
            by_length = np.argsort(self._lengths, kind="stable")
            place = np.arange(steps * batch_size)
            weight = (place < len(by_length)).astype(np.float32)
            index = by_length[np.where(place < len(by_length), place, 0)]
        starts = np.arange(steps) * batch_size
        length = fit(self._buckets, np.maximum.reduceat(self._lengths[index], starts))
        size = np.diff(starts, append=len(index))
        unlike = np.flatnonzero((length[1:] != length[:-1]) | (size[1:] != size[:-1])) + 1
        ends = np.append(unlike, steps)
        run_end = np.repeat(ends, np.diff(ends, prepend=0))
        return _Epoch(index, weight, length, run_end)
