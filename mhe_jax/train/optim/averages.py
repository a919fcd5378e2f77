"""Averages of the weights over the run, kept on the device: exponential (EMA) and uniform (SWA).

Each is kept as its weights are. Of a table of narrow numbers (`mhe_jax.ops.storage`) so is the average, and its small
steps are rounded by chance, as those of the table are.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.ops import storage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponential:
    """`average <- d * average + (1 - d) * weights` after every step.

    d is `decay`, or (1 + n) / (10 + n) while that is smaller, so that the initial weights are soon forgotten.

    Attributes:
      decay: share of the old average that a step leaves, once many steps have passed.
      steps_per_epoch: given by the loop.

    Raises:
      ValueError: for a share below 0 or above 1.
    """

    decay: float = 0.999
    steps_per_epoch: int

    def __post_init__(self):
        if not 0 <= self.decay <= 1:
            raise ValueError(f"config.average.decay is {self.decay}; it must be from 0 to 1")

    def share(self, step, count):
        """The weight of the newest value, and the number of values averaged so far."""
        return 1 - jnp.minimum(self.decay, (1 + count) / (10 + count)), count + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform:
    """Stochastic weight averaging: the running mean of the weights at every `every_steps`-th step of an epoch.

    It starts with the weights at the beginning of epoch `start_epoch`; until then the average follows the weights. The
    first step of each epoch counts, as in LightXML and the published text pipeline.

    Attributes:
      start_epoch: first epoch that is averaged; the run must reach it.
      every_steps: steps of an epoch between the weights that count.
      steps_per_epoch: given by the loop.

    Raises:
      ValueError: for an epoch below 0, and for fewer than 1 step between the weights.
    """

    start_epoch: int
    every_steps: int
    steps_per_epoch: int

    def __post_init__(self):
        if not self.start_epoch >= 0:
            raise ValueError(f"config.average.start_epoch is {self.start_epoch}; it must be 0 or more")
        if not self.every_steps >= 1:
            raise ValueError(f"config.average.every_steps is {self.every_steps}; it must be 1 or more")

    def share(self, step, count):
        started = step >= self.start_epoch * self.steps_per_epoch
        due = started & (step % self.steps_per_epoch % self.every_steps == 0)
        count = jnp.where(started, count + due, 1)
        return jnp.where(started, due / count, 1.0), count


AVERAGES: dict[str, Callable[..., Any]] = {
    "none": lambda steps_per_epoch: None,
    "ema": Exponential,
    "swa": Uniform,
}


def build_average(section: ConfigDict, steps_per_epoch: int):
    """The rule of `config.average`, or None for 'none'."""
    return registry.build(AVERAGES, section, "config.average", steps_per_epoch=steps_per_epoch)


def start(rule, weights) -> dict | None:
    """The average before the first step: the initial weights, counted once. `weights` is any pytree of arrays."""
    return None if rule is None else {"weights": weights, "count": jnp.int32(1)}


def update(rule, average: dict | None, weights, step, key: jax.Array) -> dict | None:
    """The average after optimizer step `step` (counted from 0) has produced `weights`.

    Args:
      rule: of `build_average`.
      average: before it; None: nothing is averaged.
      weights: any pytree of arrays and of `storage.Scaled`.
      step: int [].
      key: a random key of the step's own, what narrow numbers are rounded by.
    """
    if average is None:
        return None
    share, count = rule.share(step, average["count"])

    def mix(old, new):
        leaves, structure = jax.tree.flatten(old, is_leaf=_is_scaled)
        pairs = zip(leaves, jax.tree.leaves(new, is_leaf=_is_scaled), strict=True)
        return jax.tree.unflatten(structure, [_mixed(share, *pair, number, key) for number, pair in enumerate(pairs)])

    # Most steps of a uniform average add nothing, and need not touch the weights then.
    mixed = jax.lax.fori_loop(0, (share > 0).astype(jnp.int32), lambda _, old: mix(old, weights), average["weights"])
    return {"weights": mixed, "count": count}


def _is_scaled(x: Any) -> bool:
    return isinstance(x, storage.Scaled)


def _mixed(share: jax.Array, old: storage.Stored, new: storage.Stored, number: int, key: jax.Array) -> storage.Stored:
    """Leaf `number` of an average, kept as it was."""
    if isinstance(old, jax.Array) and isinstance(new, jax.Array) and old.dtype != jnp.bfloat16:
        return (1 - share) * old + share * new
    wide = lambda stored: storage.widen(stored).astype(jnp.float32)
    rows = ((1 - share) * wide(old) + share * wide(new)).reshape(-1, old.shape[-1])
    bits = jax.random.bits(jax.random.fold_in(key, number), (2,), jnp.uint32)
    flat = old.reshape(-1, old.shape[-1])
    return storage.narrow(rows, flat, jnp.arange(rows.shape[0]), bits).reshape(*old.shape)
