"""What a config leaves to the data, filled in: as the run that goes on has it, else by the data that were read.

config.json keeps the filled config, so that whatever opens a run finds what it was trained with.

Where the batch is left to the data, the learning rate is that of the largest batch, and is multiplied by the square
root of the share of it that the batch is, the rule for Adam (Malladi et al., NeurIPS 2022).
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from mhe_jax.data.build import Data
from mhe_jax.settings import flat
from mhe_jax.train import experiment

# By its path, the value by which a config leaves a field to the data.
LEFT: dict[str, Any] = {
    "data.channels": 0,
    "data.augmentation": "auto",
    "data.features_dim": 0,
    "data.embedding_dim": 0,
    "global_batch_size": 0,
}

RATE = "schedule.learning_rate"
STEPS_PER_EPOCH = 32
SMALLEST, LARGEST = 32, 256


def left(config: ConfigDict) -> list[str]:
    """The paths of the fields that a config leaves to the data."""
    fields = flat(config)
    return [path for path, value in LEFT.items() if path in fields and fields[path] == value]


def as_trained(config: ConfigDict, workdir: pathlib.Path | None) -> ConfigDict:
    """The config with the fields that it leaves to the data as the run in `workdir` has them, if one has begun there.

    Raises:
      ValueError: if the folder's config is damaged.
    """
    paths = left(config)
    if not paths or workdir is None or not experiment.is_begun(workdir):
        return config
    from mhe_jax.train import sections  # all that a config can name: slow to import, and a run's own has no gaps

    stored, _ = experiment.read_workdir(workdir)
    trained = sections.completed(stored)
    return _filled(config, {path: trained[path] for path in paths if path in trained})


def by_data(config: ConfigDict, data: Data, num_examples: int, multiple: int) -> ConfigDict:
    """The config with the fields that it leaves to the data as `data`, which is loaded, decides them.

    Args:
      config: the one that `data` was built from.
      data: the data set after `load`.
      num_examples: of its training split.
      multiple: what a batch has to be a multiple of: devices and parts of a step.
    """
    section = "data."
    decided = {path: getattr(data, path.removeprefix(section)) for path in left(config) if path.startswith(section)}
    if "global_batch_size" in left(config):
        decided["global_batch_size"] = batch_size(num_examples, multiple)
    return _filled(config, decided)


def batch_size(num_examples: int, multiple: int = 1) -> int:
    """The largest power of two that leaves an epoch 32 steps, from 32 to 256, but no more than there are examples.

    It is rounded down to a multiple of `multiple`, which is the least.
    """
    steps = max(num_examples // STEPS_PER_EPOCH, 1)
    size = min(max(2 ** (steps.bit_length() - 1), SMALLEST), LARGEST, num_examples)
    return max(size // multiple, 1) * multiple


def told(config: ConfigDict, paths: list[str]) -> str:
    """One line with the values of the fields `paths`."""
    fields = flat(config)
    paths = [*paths, *[RATE] * ("global_batch_size" in paths)]
    return "by the data: " + ", ".join(f"{path} = {_short(fields[path])}" for path in paths)


def _filled(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    if not values:
        return config
    config, values = config.copy_and_resolve_references(), dict(values)
    if "global_batch_size" in values:
        values[RATE] = config.schedule.learning_rate * math.sqrt(values["global_batch_size"] / LARGEST)
    with config.ignore_type():  # a rate may be a whole number
        config.update_from_flattened_dict(values)
    return config


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
