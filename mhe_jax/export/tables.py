"""Classifier tables of eight bits a number, with a scale for each row; a program widens them block by block.

Rounded to the nearest after training, as in weight-only quantisation per row (LLM.int8(), arXiv 2208.07339, has it for
inner products).
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from mhe_jax.heads.group_table import GroupTable
from mhe_jax.inference.opened import BATCH_SIZE, Trained
from mhe_jax.ops.sampling import BatchUnion
from mhe_jax.ops.storage import Scaled
from mhe_jax.train.features import embedded

# The largest number of each.
DTYPES = {"int8": 127.0, "float8_e4m3fn": 448.0}
_MOST_COMPARED = 4096  # examples


class Agreement(NamedTuple):
    """Of how many `examples`, from where, the best class is the same: a `share` of them."""

    share: float
    examples: int
    source: str


def quantised(task: Any, weights: dict, dtype: str) -> tuple[Any, dict]:
    """A task and its weights with the rows of the classes in `dtype`, one of `DTYPES`.

    Raises:
      ValueError: for another dtype, or a head without a row for each class.
    """
    if dtype not in DTYPES:
        raise ValueError(f"--table_dtype={dtype}: it must be one of {', '.join(DTYPES)}")
    head = task.head
    if isinstance(head, GroupTable):
        head = head.clone(sampler=BatchUnion())  # which is of training alone, and by which its table is an owned one
    head = head.clone(storage="float8")
    if not head.owned_tables():
        raise ValueError(
            f"--table_dtype={dtype}: only tables with a row for each class, those of ohe, mhc and mhs, are made narrow"
        )
    params = dict(weights["params"]["head"])
    for name in head.owned_tables():
        params[name] = narrow(widened(params[name]), dtype)
    weights = {**weights, "params": {**weights["params"], "head": params}}
    return dataclasses.replace(task, head=head), weights


def widened(stored: Any) -> np.ndarray:
    """An array as it is, or in float32 where it is of narrow numbers, see `mhe_jax.ops.storage`."""
    if isinstance(stored, Scaled):
        return np.asarray(stored.values, np.float32) * np.asarray(stored.scales)[..., None]
    array = np.asarray(stored)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def narrow(rows: np.ndarray, dtype: str) -> Scaled:
    """float32 rows [..., D] as numbers of eight bits, rounded to the nearest, and their scales."""
    scales = np.abs(rows).max(axis=-1) / DTYPES[dtype]
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    values = rows / scales[..., None]
    if dtype == "int8":
        return Scaled(np.rint(values).astype(np.int8), scales)
    return Scaled(values.astype(ml_dtypes.float8_e4m3fn), scales)


def agreement(trained: Trained, dtype: str) -> Agreement:
    """How often the best class stays the same, on the run's evaluation split; where the data is away, on random
    features."""
    task, weights = quantised(trained.task, jax.device_get(trained.weights), dtype)
    before, after = jax.jit(_best(trained.task)), jax.jit(_best(task))
    of_head, of_narrow = jax.device_get(trained.weights)["params"]["head"], weights["params"]["head"]
    batches, source = _features(trained)
    same = total = 0
    for features in batches:
        same += int((before(of_head, features) == after(of_narrow, features)).sum())
        total += len(features)
    return Agreement(same / total, total, source)


def _best(task: Any) -> Any:
    def best(params, features):
        _, ids = task.head.apply({"params": params}, features, 1, method="topk")
        return ids[:, 0]

    return best


def _features(trained: Trained) -> tuple[Any, str]:
    """Batches of features [B, D] on the host, and what they are of."""
    try:
        split = trained.load_splits().eval
    except (ValueError, OSError):
        width = trained.task.head.features_dim
        drawn = np.random.default_rng(0).normal(size=(_MOST_COMPARED // BATCH_SIZE, BATCH_SIZE, width))
        return jnp.asarray(drawn, jnp.float32), "random features, as the data is away"
    batch_size = -(-BATCH_SIZE // trained.mesh.size) * trained.mesh.size

    def batches():
        with jax.set_mesh(trained.mesh), jax.default_matmul_precision(trained.settings.matmul_precision):
            found = embedded(trained.task, trained.weights, split, batch_size, trained.mesh)
            made = [part.features for part in itertools.islice(found, -(-_MOST_COMPARED // batch_size))]
        yield from made

    return batches(), "the evaluation split"
