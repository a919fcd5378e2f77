"""Codes from the run itself: a one-hot head for some epochs, then clusters of what the backbone makes of the classes.

    epochs 0 .. e          one-hot head, backbone, schedule of the whole run      WORKDIR/warmup
    one pass               class means of the training features -> codes.npy      WORKDIR
    epochs e .. the end    the config's head, new; the backbone goes on           WORKDIR

The warm-up is a run of the same loop that leaves after `epochs`. It is a whole one, with checkpoints of its own, and so
is interrupted and resumed as any other. The run proper begins at the step where it ended.
"""

import contextlib
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.codes.sources import Source, WarmUp
from mhe_jax.heads.base import Head
from mhe_jax.interop import class_rows
from mhe_jax.labels import LabelCodes
from mhe_jax.settings import Settings, defaults
from mhe_jax.train import experiment
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from mhe_jax.train.learner import build_learner
from mhe_jax.train.optim import averages
from mhe_jax.train.parallel.mesh import put
from mhe_jax.train.state import TrainState, abstract_state

# In a run's folder: that of its warm-up.
FOLDER = "warmup"


def is_due(source: Source, workdir: pathlib.Path) -> bool:
    """Whether a run has still to warm up; one whose warm-up is done, and no more, goes through it without a step."""
    return isinstance(source, WarmUp) and not experiment.is_begun(workdir)


def config_of(config: ConfigDict) -> ConfigDict:
    """The config of a run's warm-up: the same with a one-hot head by ids, trained as all else.

    Raises:
      ValueError: if the run's head shall not begin anew, which it does after a warm-up.
    """
    if config.init_from and "head" in config.init_parts:
        raise ValueError(
            f"config.init_parts is {tuple(config.init_parts)}, but after a warm-up (config.codes) the head begins "
            "anew: set init_parts = ('backbone',)"
        )
    config = config.copy_and_resolve_references()
    usual = defaults()
    with config.unlocked():
        margin = {"margin": config.head.margin} if "margin" in config.head else {}
        config.head = ConfigDict({"name": "ohe", "head_sizes": (), **margin})
        config.codes, config.table_optimizer = usual["codes"], usual["table_optimizer"]
    return config


def steps(source: Source, steps_per_epoch: int, total_steps: int) -> int:
    """The length of a warm-up in steps; 0 for another source.

    Raises:
      ValueError: if nothing of the run would be left.
    """
    if not isinstance(source, WarmUp):
        return 0
    count = max(1, round(source.epochs * steps_per_epoch))
    if count >= total_steps:
        raise ValueError(
            f"config.codes.epochs is {source.epochs}: the warm-up would take {count} steps, but the run has "
            f"{total_steps}"
        )
    return count


def carried_over(
    state: TrainState,
    config: ConfigDict,
    workdir: pathlib.Path,
    data: Any,
    mesh: Mesh,
    steps_per_epoch: int,
    head: Head,
    codes: LabelCodes,
) -> tuple[TrainState, float]:
    """A new state as it goes on from the warm-up: its step, its backbone, its statistics, and its head where one can be
    made of it (`Head.from_one_hot`).

    The optimizer and the average begin anew, but at the rate that the whole run has there.

    Args:
      state: of the run, newly made.
      config, workdir: of the run.
      data: the data set, loaded.
      mesh: the ambient one.
      steps_per_epoch: of the training split.
      head: of the run.
      codes: of the run.

    Returns:
      the state, and the seconds that the warm-up took.
    """
    settings = Settings.from_config(config_of(config))
    task = experiment.build_task(settings, settings.head, data, data.num_classes)
    total_steps = settings.duration("total", steps_per_epoch)
    learner = build_learner(settings, task, total_steps, steps_per_epoch)
    abstract = abstract_state(task, learner.optimizer, learner.average_rule, mesh, settings.shard_backbone)
    with contextlib.closing(Checkpoints(workdir / FOLDER, read_only=True)) as checkpoints:
        before, meta = checkpoints.restore(abstract, task.head.label_space)
    one_hot = {
        name: class_rows.in_order(rows, codes.in_code_order(np.arange(codes.num_classes)))
        for name, rows in before.params["head"].items()
    }
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state.params["head"])
    begun = jax.jit(head.from_one_hot, out_shardings=shardings)(state.params["head"], one_hot)
    params = {"backbone": jax.tree.map(put, before.params["backbone"], state.params["backbone"]), "head": begun}
    batch_stats = jax.tree.map(put, before.batch_stats, state.batch_stats)
    average = averages.start(
        learner.average_rule, jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})
    )
    step = put(before.step, state.step)
    state = dataclasses.replace(
        state,
        step=step,
        params=params,
        batch_stats=batch_stats,
        opt_state=_with_rate_of(state.opt_state, step),
        average=average,
    )
    return state, meta["seconds"]


def _with_rate_of(opt_state: Any, step: jax.Array) -> Any:
    """A new optimizer state whose learning rate is that of a step; moments, and the count that corrects them, are new.

    Moments that had been kept for the backbone alone would go with a count that lets the head's first steps, whose
    squares are not yet known, be several times too long.
    """
    counts = lambda node: isinstance(node, optax.ScaleByScheduleState)
    at_step = lambda node: node._replace(count=jnp.copy(step).astype(node.count.dtype)) if counts(node) else node
    return jax.tree.map(at_step, opt_state, is_leaf=counts)
