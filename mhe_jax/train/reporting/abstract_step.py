"""A config's train step, compiled for shapes alone: a model may be far larger than the machine that asks about it."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.data import build_data
from mhe_jax.settings import Settings
from mhe_jax.train import experiment
from mhe_jax.train.optim import averages
from mhe_jax.train.optim.optimizer import Optimizer, build_optimizer
from mhe_jax.train.optim.schedules import build_schedule
from mhe_jax.train.parallel.mesh import CHUNK
from mhe_jax.train.state import TrainState, abstract_state
from mhe_jax.train.step import StepOptions, compile_train_program, make_train_step


class Model(NamedTuple):
    """What a step is made of."""

    task: experiment.Task
    optimizer: Optimizer
    average_rule: Any
    state: TrainState  # abstract


def build_model(settings: Settings, head: ConfigDict, mesh: Mesh) -> Model:
    """The model of a config with the given `config.head`.

    Raises:
      ValueError: for anything wrong with them.
    """
    task = experiment.build_task(settings, head, build_data(settings.data), settings.data.num_classes)
    schedule = build_schedule(settings.schedule, total_steps=1, steps_per_epoch=1)
    sparse = task.head.sparse_tables()
    optimizer = build_optimizer(
        settings.optimizer,
        schedule,
        clip_section=settings.clip,
        table_section=settings.table_optimizer if sparse else None,
        sparse_tables=sparse,
        freeze_backbone=settings.freeze_backbone,
    )
    rule = averages.build_average(settings.average, steps_per_epoch=1)
    return Model(task, optimizer, rule, abstract_state(task, optimizer, rule, mesh, settings.shard_backbone))


def compile_step(settings: Settings, model: Model, mesh: Mesh) -> jax.stages.Compiled:
    """One train step of `model` on a batch of the config's data; the mesh must be ambient too."""
    options = StepOptions(
        accumulate_steps=settings.accumulate_steps,
        log_every_steps=settings.log_every_steps,
        dropout_off_after_step=settings.dropout_off_after_step,
        shard_backbone=settings.shard_backbone,
        freeze_backbone=settings.freeze_backbone,
    )
    sharding = jax.NamedSharding(mesh, CHUNK)
    chunk = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype, sharding=sharding),
        build_data(settings.data).abstract_batch(settings.global_batch_size),
    )
    step = make_train_step(model.task, model.optimizer, model.average_rule, options)
    program = compile_train_program(step, lambda resident, piece: piece, 1, model.state)
    return program.lower(model.state, {}, chunk, jax.ShapeDtypeStruct((), np.int32)).compile()
