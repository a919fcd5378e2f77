"""Which examples each step sees: a pure function of (seed, step), so that a run resumes by arithmetic."""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rows:
    """The examples of one step, before they are split over processes.

    index: int [size] into the split; weight: float32 [size], 0 for padding; epoch: how often the split was passed.
    copy: int [size], which repetition of its example a row is; None: each is there once.
    """

    index: np.ndarray
    weight: np.ndarray
    epoch: int
    copy: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class EpochOrder:
    """Training order: every epoch is a new permutation, `default_rng((seed, epoch)).permutation(num_examples)`.

    last_batch 'drop' leaves out the num_examples % batch_size last ones of each permutation (others each epoch), 'keep'
    makes one smaller batch of them.

    repeats: how often each example is in a batch, one repetition of all behind the other; the last one is cut off where
      they do not fill it. An epoch keeps its number of steps and so has a part of the examples, as of DeiT and timm.

    Raises:
      ValueError: when there is no full batch to make with 'drop', for a negative seed, and for more repetitions than a
        batch has rows.
    """

    num_examples: int
    batch_size: int
    seed: int
    last_batch: str = "drop"
    repeats: int = 1

    def __post_init__(self):
        if self.repeats > self.batch_size:
            raise ValueError(
                f"config.augment.repeats is {self.repeats}, more than config.global_batch_size={self.batch_size}"
            )
        if self.seed < 0:
            raise ValueError(f"the data seed must not be negative, but is {self.seed}")
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"config.global_batch_size is {self.batch_size} but the training split has {self.num_examples} "
                "examples: with config.data.last_batch = 'drop' there is no batch; lower it or set 'keep'"
            )

    @property
    def steps_per_epoch(self) -> int:
        full, rest = divmod(self.num_examples, self.batch_size)
        return full + (rest > 0 and self.last_batch == "keep")

    def size(self, step: int) -> int:
        """Number of rows of a step: batch_size, or less at the end of an epoch with 'keep'."""
        return min(self.batch_size, self.num_examples - step % self.steps_per_epoch * self.batch_size)

    def chosen(self, epoch: int) -> np.ndarray | None:
        """The examples of an epoch, ascending, as many as there are; None: each once."""
        return None

    def rows(self, step: int) -> Rows:
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        size, distinct = self.size(step), -(-self.batch_size // self.repeats)
        start = step_in_epoch * distinct
        index = _permutation(self.num_examples, self.seed, epoch)[start : start + min(distinct, size)]
        chosen = self.chosen(epoch)
        index = index if chosen is None else chosen[index]
        copy, place = np.divmod(np.arange(size), len(index))
        return Rows(index[place], np.ones(size, np.float32), epoch, copy)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SampledOrder(EpochOrder):
    """Training order in which an example is drawn about as often as its rate says, within epochs of the usual length.

    Of N examples with rates r, one is in an epoch N r / sum(r) times, rounded up or down at random so that there are N
    in all (systematic sampling over a random order), which are then shuffled.

    rates: float [N], not negative. first_epoch: the epochs before it have each example once.
    """

    rates: np.ndarray
    first_epoch: int = 0

    def chosen(self, epoch: int) -> np.ndarray | None:
        return self._drawn(epoch) if epoch >= self.first_epoch else None

    @functools.cached_property
    def _drawn(self):
        # Two, for a reader that looks back over an epoch's end.
        return functools.lru_cache(maxsize=2)(self._draw)

    def _draw(self, epoch: int) -> np.ndarray:
        # Words of a seed of their own, as in `example_rng`.
        rng = np.random.default_rng((self.seed, epoch, 0, 0, 1))
        order = rng.permutation(self.num_examples)
        sums = np.cumsum(self.rates[order], dtype=np.float64)
        points = (rng.random() + np.arange(self.num_examples)) * (sums[-1] / self.num_examples)
        at = np.searchsorted(sums, points, side="right")
        return np.sort(order[np.minimum(at, self.num_examples - 1)])


@dataclasses.dataclass(frozen=True)
class EvalOrder:
    """Evaluation order: every example exactly once, in order; the last batch is filled with index 0 at weight 0."""

    num_examples: int
    batch_size: int

    def __post_init__(self):
        if self.num_examples == 0:
            raise ValueError("the evaluation split has no examples")

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def size(self, step: int) -> int:
        return self.batch_size

    def rows(self, step: int) -> Rows:
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        index = np.arange(self.batch_size) + step_in_epoch * self.batch_size
        valid = index < self.num_examples
        return Rows(np.where(valid, index, 0), valid.astype(np.float32), epoch)


@functools.lru_cache(maxsize=1)
def _permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """That of the class's docstring, with four bytes for each example where they suffice: the draws are the same."""
    numbers = np.arange(num_examples, dtype=np.int32 if num_examples < 2**31 else np.int64)
    permutation = np.random.default_rng((seed, epoch)).permutation(numbers)
    permutation.flags.writeable = False
    return permutation


def example_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The augmentation stream of one example in one epoch, whoever loads it.

    A fourth word keeps it apart from the permutation's stream: numpy ignores trailing zeros of a seed.
    """
    return np.random.default_rng((seed, epoch, index, 1))
