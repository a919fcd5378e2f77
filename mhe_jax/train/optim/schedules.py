"""Learning rates as functions of the step, with warm-up: cosine, polynomial, step-wise and constant."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from mhe_jax import registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up from 0 to `learning_rate`, then `decay` of the fraction of the remaining run that has passed.

    Attributes:
      learning_rate: the peak.
      warmup_epochs: length of the warm-up; may be 0.
      per_epoch: hold the rate through each epoch after the warm-up, as PyTorch scripts do that step the scheduler once
        an epoch.
      total_steps, steps_per_epoch: given by the loop.

    Raises:
      ValueError: for a number below 0.
    """

    learning_rate: float
    total_steps: int
    steps_per_epoch: int
    warmup_epochs: float = 0.0
    per_epoch: bool = False

    def __post_init__(self):
        _require_from_zero(self, "learning_rate", "warmup_epochs")

    def __call__(self, step):
        warmup = round(self.warmup_epochs * self.steps_per_epoch)
        step = held = jnp.asarray(step, jnp.float32)
        if self.per_epoch:
            held = jnp.floor(step / self.steps_per_epoch) * self.steps_per_epoch
        passed = jnp.clip((held - warmup) / max(1, self.total_steps - warmup), 0.0, 1.0)
        rate = self.decay(passed, held)
        return jnp.where(step < warmup, self.learning_rate * step / max(1, warmup), rate) if warmup else rate

    def decay(self, passed, step):
        """The rate after the warm-up; `passed` runs from 0 to 1 over the rest of the run."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from the peak to `end_learning_rate` (torch's CosineAnnealingLR in closed form).

    Attributes:
      end_learning_rate: the rate at the end of the run.
    """

    end_learning_rate: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        _require_from_zero(self, "end_learning_rate")

    def decay(self, passed, step):
        low = self.end_learning_rate
        return low + (self.learning_rate - low) * 0.5 * (1 + jnp.cos(jnp.pi * passed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Polynomial(Schedule):
    """`learning_rate * (1 - passed) ** power`, the schedule of insightface (power 2, stepped every iteration).

    Attributes:
      power: 1 falls in a straight line, more falls faster at first.
    """

    power: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        _require_from_zero(self, "power")

    def decay(self, passed, step):
        return self.learning_rate * (1 - passed) ** self.power


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps(Schedule):
    """The peak times `factor` for every milestone that has passed (torch's MultiStepLR).

    Attributes:
      milestones: epochs after which the rate is multiplied.
      factor: of the rate at each of them.
    """

    milestones: tuple[float, ...]
    factor: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        _require_from_zero(self, "factor")
        if not all(epoch >= 0 for epoch in self.milestones):
            raise ValueError(f"config.schedule.milestones is {self.milestones}; they must be 0 or more")

    def decay(self, passed, step):
        reached = sum((step >= round(epoch * self.steps_per_epoch)).astype(jnp.float32) for epoch in self.milestones)
        return self.learning_rate * self.factor**reached


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The peak, for ever."""

    def __post_init__(self):
        super().__post_init__()
        if self.per_epoch:
            raise ValueError("config.schedule.per_epoch is set, but a constant rate is the same at every step")

    def decay(self, passed, step):
        return jnp.full_like(passed, self.learning_rate)


def _require_from_zero(schedule: Schedule, *fields: str) -> None:
    for field in fields:
        value = getattr(schedule, field)
        if not value >= 0:
            raise ValueError(f"config.schedule.{field} is {value}; it must be 0 or more")


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "cosine": Cosine,
    "poly": Polynomial,
    "steps": Steps,
    "constant": Constant,
}


def build_schedule(section: ConfigDict, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """The schedule that `config.schedule` describes; raises ValueError naming a wrong field."""
    return registry.build(
        SCHEDULES, section, "config.schedule", total_steps=total_steps, steps_per_epoch=steps_per_epoch
    )
