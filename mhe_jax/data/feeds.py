"""Which feed a split gets, for training or for evaluation; all follow the same order of examples."""

import math

from mhe_jax.data.dataset import ArraySplit, PairedSplit, Split
from mhe_jax.data.features.dataset import FeatureSplit
from mhe_jax.data.features.feed import FeatureFeed
from mhe_jax.data.feed import Feed
from mhe_jax.data.images.feed import ArrayFeed
from mhe_jax.data.images.stream_feed import StreamFeed
from mhe_jax.data.order import EpochOrder, EvalOrder, SampledOrder
from mhe_jax.data.sampling import ALL, Drawn
from mhe_jax.data.texts.dataset import TextSplit
from mhe_jax.data.texts.feed import TextFeed


def train_feed(
    split: Split | TextSplit | FeatureSplit,
    batch_size: int,
    *,
    seed: int,
    last_batch: str = "drop",
    repeats: int = 1,
    process_index: int = 0,
    process_count: int = 1,
    num_devices: int = 1,
    processes_here: int = 1,
    drawn: Drawn = ALL,
    graded: bool = False,
) -> Feed:
    """Endless shuffled batches of `batch_size` rows over all processes, of which `processes_here` share a machine.

    Each example is `repeats` times in a batch; `drawn` says how often it is in an epoch. With `graded`, batches of many
    labels have their values in the matrix as 'target' float32 [B, W].

    Raises:
      ValueError: if batches cannot be split evenly over the processes and `num_devices` devices (the length of the mesh
        axes that the batch is split over), or the split has no full batch.
    """
    order = EpochOrder(split.num_examples, batch_size, seed, last_batch, repeats)
    if drawn.rates is not None:
        order = SampledOrder(**vars(order), rates=drawn.rates, first_epoch=drawn.first_epoch)
    return _feed(split, order, seed, process_index, process_count, num_devices, processes_here, graded)


def eval_feed(
    split: Split | PairedSplit | TextSplit | FeatureSplit,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    num_devices: int = 1,
    processes_here: int = 1,
) -> Feed:
    """Every example once, in order; rows that fill the last batch have weight 0. Raises like `train_feed`.

    Of a PairedSplit, the examples are its pictures.
    """
    if isinstance(split, PairedSplit):
        split = split.images
    order = EvalOrder(split.num_examples, batch_size)
    return _feed(split, order, None, process_index, process_count, num_devices, processes_here)


def _feed(split, order, seed, process_index, process_count, num_devices, processes_here, graded=False) -> Feed:
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
        return TextFeed(split, order, process_index, process_count, graded)
    if isinstance(split, FeatureSplit):
        return FeatureFeed(split, order, process_index, process_count, graded)
    return StreamFeed(split, order, seed, process_index, process_count, processes_here)
