"""Averages of the weights over the run, kept on the device: exponential (EMA) and uniform (SWA)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mhe_jax import registry


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


def update(rule, average: dict | None, weights, step) -> dict | None:
    """The average after optimizer step `step` (counted from 0) has produced `weights`."""
    if average is None:
        return None
    share, count = rule.share(step, average["count"])
    mix = lambda old, new: jax.tree.map(lambda a, b: (1 - share) * a + share * b, old, new)
    # Most steps of a uniform average add nothing, and need not touch the weights then.
    mixed = jax.lax.cond(share > 0, mix, lambda old, new: old, average["weights"], weights)
    return {"weights": mixed, "count": count}
