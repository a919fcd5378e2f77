"""What trains a task: the learning rate, the optimizer and the average of the weights, from one config."""

from typing import Any, NamedTuple

import optax

from mhe_jax.settings import Settings
from mhe_jax.train.optim import averages
from mhe_jax.train.optim.optimizer import Optimizer, build_optimizer
from mhe_jax.train.optim.schedules import build_schedule


class Learner(NamedTuple):
    """See `mhe_jax.train.optim`; `average_rule` is None where nothing is averaged."""

    schedule: optax.Schedule
    optimizer: Optimizer
    average_rule: Any


def build_learner(settings: Settings, task: Any, total_steps: int, steps_per_epoch: int) -> Learner:
    """The learner of a config for a task; raises ValueError naming a wrong field, or one that begins after the end."""
    _check_begins(settings, total_steps, steps_per_epoch)
    schedule = build_schedule(settings.schedule, total_steps, steps_per_epoch)
    optimizer = build_optimizer(
        settings.optimizer,
        schedule,
        clip_section=settings.clip,
        table_section=settings.table_optimizer,
        sparse_tables=task.head.sparse_tables(),
        owned_tables=task.head.owned_tables(),
        freeze_backbone=settings.freeze_backbone,
    )
    return Learner(schedule, optimizer, averages.build_average(settings.average, steps_per_epoch))


def _check_begins(settings: Settings, total_steps: int, steps_per_epoch: int) -> None:
    start = settings.average.get("start_epoch", 0)
    if start and start * steps_per_epoch >= total_steps:
        raise ValueError(
            f"config.average.start_epoch is {start}, but the run ends after {total_steps / steps_per_epoch:g} epochs"
        )
    begins = tuple(settings.optimizer.get("unfreeze_steps", ()))
    if begins and begins[-1] >= total_steps:
        raise ValueError(f"config.optimizer.unfreeze_steps is {begins}, but the run ends after {total_steps} steps")
