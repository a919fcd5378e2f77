"""A config's programs, compiled for shapes alone: a model may be far larger than the machine that asks about it."""

import contextlib
import dataclasses
import math
import re
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.settings import Settings
from mhe_jax.train import experiment
from mhe_jax.train.evaluator import make_evaluation
from mhe_jax.train.optim import averages, rules
from mhe_jax.train.optim.optimizer import Optimizer, build_optimizer
from mhe_jax.train.optim.schedules import build_schedule
from mhe_jax.train.pairs_evaluator import make_embed
from mhe_jax.train.parallel import fsdp
from mhe_jax.train.parallel.collectives import collectives
from mhe_jax.train.parallel.mesh import CHUNK, whole
from mhe_jax.train.reporting import report
from mhe_jax.train.stages import tasks_of
from mhe_jax.train.state import TrainState, abstract_state, weights_of
from mhe_jax.train.step import StepOptions, compile_train_program, make_train_step

# For devices that are not here.
_ELSEWHERE: dict[str, Any] = {
    # Which kernel of its own suits a product XLA finds out by trying them on the card. Without one it takes the first,
    # and fails where that does not suit; cuBLAS always does.
    "gpu": {"xla_gpu_enable_triton_gemm": False},
    # What takes minutes and makes programs a little faster: they are not run.
    "tpu": {"optimization_level": 9},  # O0
}
# The compiler of TPUs (libtpu 0.0.42) may crash when two threads use it.
_ONE_AT_A_TIME = threading.Lock()
# How the compiler of TPUs says it: 'Ran out of memory on HBM, the total ... (39.41G) exceeds available HBM (31.25G)' or
# 'Ran out of memory in memory space hbm. Used 39.41G of 31.25G hbm. Exceeded ...'.
_NEEDED = re.compile(r"Ran out of memory (?:on HBM.*?\(|in memory space hbm\. Used )([\d.]+)([KMGT])", re.DOTALL)


class Model(NamedTuple):
    """What a step is made of."""

    task: experiment.Task
    optimizer: Optimizer
    average_rule: Any
    state: TrainState  # abstract


class Cost(NamedTuple):
    """What one device needs for a program, in bytes.

    arguments: state or weights, and the batch; they are there before and after.
    temporaries: what the program needs beside them, its results that do not replace arguments included.
    sent: by mesh axes, such as 'data' or 'data+class', what the device sends in one step, see `collectives`.
    seconds: the compiler's own estimate of one call, where it makes one (TPUs); the body of a loop counts once.
    refused: whether there is no program, because the compiler, that of TPUs, makes none that a device cannot hold. It
      says how much it would have needed besides; what is sent is not known.
    """

    arguments: int
    temporaries: int
    sent: dict[str, int]
    seconds: float | None
    refused: bool = False

    @property
    def total(self) -> int:
        return self.arguments + self.temporaries

    @property
    def all_sent(self) -> int | None:
        """Over all axes; None where it is not known."""
        return None if self.refused else sum(self.sent.values())


class DoesNotFit(Exception):
    """The compiler makes no program for a device that is too small; `cost` is what it would have needed."""

    def __init__(self, cost: Cost):
        self.cost = cost


def build_model(settings: Settings, head: ConfigDict, mesh: Mesh) -> Model:
    """The model of a config with the given `config.head`; of a published encoder neither files nor hub are asked.

    Raises:
      ValueError: for anything wrong with them.
    """
    data = build_data(settings.data)
    task = experiment.build_task(settings, head, data, settings.data.num_classes, check_tokenizer=False)
    schedule = build_schedule(settings.schedule, total_steps=1, steps_per_epoch=1)
    tables = {"sparse_tables": task.head.sparse_tables(), "owned_tables": task.head.owned_tables()}
    rule = rules.build_table_optimizer(settings.table_optimizer)
    # Other heads than the config's may have no tables for its rule.
    usable = head == settings.head or rule is None or rules.offered(rule, **tables)
    optimizer = build_optimizer(
        settings.optimizer,
        schedule,
        clip_section=settings.clip,
        table_section=settings.table_optimizer if usable else None,
        **tables,
        freeze_backbone=settings.freeze_backbone,
    )
    rule = averages.build_average(settings.average, steps_per_epoch=1)
    return Model(task, optimizer, rule, abstract_state(task, optimizer, rule, mesh, settings.shard_backbone))


def lengths(settings: Settings) -> tuple[int, ...]:
    """The lengths of texts that programs are compiled for, ascending; none for pictures."""
    data = build_data(settings.data)
    return data.buckets if isinstance(data, TextData | SparseData) else ()


def compile_train(
    settings: Settings, model: Model, mesh: Mesh, *, steps: int = 1, length: int = 0
) -> jax.stages.Compiled:
    """The train program of `model` on a batch of the config's data; the mesh must be ambient too.

    Args:
      steps: of a dispatch, see `steps_per_dispatch`.
      length: of texts, one of `lengths`; 0: the longest.

    Raises:
      DoesNotFit: as the compiler of TPUs does.
    """
    # Norms are a few numbers, and not what a step costs.
    options = dataclasses.replace(StepOptions.of(settings, steps_per_epoch=1), log_norms=())
    largest = tasks_of(model.task)[-1]
    step = make_train_step(largest, model.optimizer, model.average_rule, options)
    program = compile_train_program(step, lambda resident, piece: piece, steps, model.state)
    count = jax.ShapeDtypeStruct((), np.int32)
    return _compiled(program, (model.state, {}, _chunk(settings, mesh, steps, length), count), mesh)


def compile_evaluation(settings: Settings, model: Model, mesh: Mesh, *, length: int = 0) -> jax.stages.Compiled:
    """The program that evaluates a batch, or embeds it where pairs of embeddings are compared; else as before."""
    weights, chunk = weights_of(model.state), _chunk(settings, mesh, 1, length, evaluates=True)
    if settings.shard_backbone:
        weights = fsdp.whole_shapes(weights, mesh)
    select = lambda resident, piece: {**piece, **resident}
    data = build_data(settings.data)
    if isinstance(data, FaceData):
        embed: Any = make_embed(model.task, select, mesh)
        return _compiled(embed, (weights, {}, chunk), mesh)
    resident = {}
    if data.multilabel:
        scale = jax.ShapeDtypeStruct((settings.data.num_classes,), np.float32, sharding=whole(mesh))
        resident = {"inverse_propensity": scale}
    evaluation = make_evaluation(model.task, select, mesh)
    sums = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole(mesh)),
        jax.eval_shape(evaluation.sums, weights, resident, chunk),
    )
    return _compiled(evaluation.add, (sums, weights, resident, chunk), mesh)


def cost(compile_program: Callable[[], jax.stages.Compiled], mesh: Mesh) -> Cost:
    """What XLA says that a program needs, and what its text says that it sends.

    Args:
      compile_program: `compile_train` or `compile_evaluation` with their arguments.
    """
    try:
        compiled = compile_program()
    except DoesNotFit as refusal:
        return refusal.cost
    parts = report.memory_bytes(compiled.memory_analysis())
    sent: Counter[str] = Counter()
    for one in collectives(compiled.as_text() or "", mesh):
        sent[one.axes] += one.moved
    estimate = (compiled.cost_analysis() or {}).get("optimal_seconds")
    seconds = float(estimate) if estimate and estimate > 0 else None
    return Cost(parts["arguments"], parts["temporary"] + parts["outputs"], dict(sent), seconds)


def _compiled(function: Any, arguments: tuple[Any, ...], mesh: Mesh) -> jax.stages.Compiled:
    platform = mesh.devices.flat[0].platform
    here = platform == jax.default_backend()
    lowered = function.lower(*arguments)
    try:
        with _ONE_AT_A_TIME if platform == "tpu" else contextlib.nullcontext():
            return lowered.compile(compiler_options=None if here else _ELSEWHERE.get(platform))
    except jax.errors.JaxRuntimeError as error:
        if (needed := _NEEDED.search(str(error))) is None:
            raise
        in_all = int(float(needed[1]) * 2 ** (10 * (1 + "KMGT".index(needed[2]))))  # which has the arguments in it
        held = sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(arguments)
        )
        raise DoesNotFit(Cost(held, max(in_all - held, 0), {}, None, refused=True)) from error


def _chunk(settings: Settings, mesh: Mesh, steps: int, length: int, evaluates: bool = False) -> dict[str, Any]:
    data, sharding = build_data(settings.data), jax.NamedSharding(mesh, CHUNK)
    batch = data.abstract_batch(settings.global_batch_size)
    if isinstance(data, TextData | SparseData):
        batch = data.abstract_batch(settings.global_batch_size, length, evaluates)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((steps, *leaf.shape), leaf.dtype, sharding=sharding), batch)
