"""What a feed is: this process's rows of each step. The processes' rows, put together, are the single-process batch."""

import jax
import numpy as np

from mhe_jax.data.order import EpochOrder, EvalOrder, Rows


class Feed:
    """Batches of one split for one process; see `train_feed` and `eval_feed`.

    bad: the unreadable examples that were met so far by this process; they have weight 0.
    left_out: how many unreadable examples the split had lost before.
    streamed: whether a chunk holds the examples themselves, and not their numbers.
    """

    left_out: int = 0
    streamed: bool = False

    def __init__(self, order: EpochOrder | EvalOrder, process_index: int, process_count: int):
        self.order = order
        self.num_examples = order.num_examples
        self.batch_size = order.batch_size
        self.steps_per_epoch = order.steps_per_epoch
        self.bad: set[int] = set()
        self.process_index, self.process_count = process_index, process_count

    @property
    def bad_examples(self) -> int:
        """How many unreadable examples this process knows of."""
        return self.left_out + len(self.bad)

    @property
    def resident(self) -> dict[str, np.ndarray]:
        """Arrays that the loop places on the device once."""
        return {}

    def rows(self, step: int) -> Rows:
        """The examples of a step over all processes."""
        return self.order.rows(step)

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


def local_slice(size: int, process_index: int, process_count: int) -> slice:
    """The rows of a batch of `size` that belong to one process: contiguous, in process order."""
    share = size // process_count
    return slice(process_index * share, (process_index + 1) * share)
