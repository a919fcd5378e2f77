"""What a config's run is, as texts that differ where runs do: its data, order, durations and traced programs.

Nothing is compiled or trained: programs are traced, for shapes alone.
"""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Callable

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.codes.sources import build_source
from mhe_jax.data.build import build_data
from mhe_jax.data.dataset import PairedSplit
from mhe_jax.data.feeds import eval_feed
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.labels import LabelCodes
from mhe_jax.settings import Settings
from mhe_jax.train import experiment, extension, warm_up
from mhe_jax.train.guided_feed import guided_feed
from mhe_jax.train.optim import averages
from mhe_jax.train.optim.averages import build_average
from mhe_jax.train.optim.optimizer import build_optimizer
from mhe_jax.train.optim.schedules import build_schedule
from mhe_jax.train.parallel.mesh import check_batch, make_mesh, shares
from mhe_jax.train.stages import staged
from mhe_jax.train.state import TrainState, _boxed_state
from mhe_jax.train.step import StepOptions, make_eval_step, make_train_step
from mhe_jax.train.weights import unboxed

_STEPS = 4  # of the order and the feed that are looked at


class Run:
    """The run of a config, as far as it is asked about; raises ValueError where the run would."""

    PARTS = ("data", "order", "schedule", "state", "update", "step", "evaluation", "ranking")

    def __init__(self, config: ConfigDict):
        self.settings = settings = Settings.from_config(config)
        extension.check(settings, pathlib.Path("nowhere"))
        self.mesh = make_mesh(settings.mesh)
        check_batch(self.mesh, settings)
        self.data = build_data(settings.data)
        self.splits = self.data.load()
        self.codes = build_source(settings.codes)
        self.task = experiment.build_task(settings, settings.head, self.data, self.data.num_classes)
        by_id, parts = LabelCodes.identity(self.data.num_classes), shares(self.mesh, settings.accumulate_steps)
        self.train = guided_feed(settings, self.data, self.splits, self.splits, by_id, self.task, **parts)
        self.total_steps = settings.duration("total", self.train.steps_per_epoch)
        self.warm_up_steps = warm_up.steps(self.codes, self.train.steps_per_epoch, self.total_steps)
        self.schedule = build_schedule(settings.schedule, self.total_steps, self.train.steps_per_epoch)
        self.average = build_average(settings.average, self.train.steps_per_epoch)
        self.optimizer = build_optimizer(
            settings.optimizer,
            self.schedule,
            clip_section=settings.clip,
            table_section=settings.table_optimizer,
            sparse_tables=self.task.head.sparse_tables(),
            owned_tables=self.task.head.owned_tables(),
            freeze_backbone=settings.freeze_backbone,
        )
        self._known: dict[str, str] = {}

    def part(self, name: str) -> str:
        """One of `PARTS`."""
        if name not in self._known:
            with jax.set_mesh(self.mesh), jax.default_matmul_precision(self.settings.matmul_precision):
                self._known[name] = getattr(self, f"_{name}")()
        return self._known[name]

    def _data(self) -> str:
        found = [self.data.num_classes, self.splits.class_names, self.train.resident, self.splits]
        if isinstance(self.data, TextData):
            found += [self.data.vocab_size, self.data.encode(["U+0041 first WORDS", "", "12 7 words " * 20])]
        return _hash(found)

    def _order(self) -> str:
        last = self.train.steps_per_epoch - 1
        return _hash([last, self.train.order.size(last), self._rows])

    def _schedule(self) -> str:
        rates = [float(self.schedule(step)) for step in range(0, self.total_steps, max(1, self.total_steps // 8))]
        return _hash([self.total_steps, self.warm_up_steps, rates])

    def _state(self) -> str:
        weights = {"params": self._initial.params, "batch_stats": self._initial.batch_stats}
        experiment.initial_weights(self.settings, weights, self.task.head.label_space)
        return self._initialisation[0]

    def _update(self) -> str:
        """Of the dense parameters by the optimizer, and of the average."""
        dense, _ = self.optimizer.split(self._initial.params)
        state = self._initial.opt_state
        state = state["dense"] if self.optimizer.rule is not None else state
        average = lambda old, new, step: averages.update(self.average, old, new, step, jax.random.key(0))
        weights = {"params": self._initial.params, "batch_stats": self._initial.batch_stats}
        return _traced(self.optimizer.transform.update, dense, state, dense) + _traced(
            average, self._initial.average, weights, self._initial.step
        )

    def _step(self) -> str:
        settings = self.settings
        options = StepOptions(
            seed=settings.seed,
            accumulate_steps=settings.accumulate_steps,
            log_every_steps=settings.log_every_steps,
            dropout_off_after_step=settings.dropout_off_after_step,
            freeze_backbone=settings.freeze_backbone,
            steps_per_epoch=self.train.steps_per_epoch,
        )
        step_of = lambda task: make_train_step(task, self.optimizer, self.average, options)
        stages = staged(self.task, self.total_steps, step_of)
        return "".join(_traced(stage.program, self._initial, self._batch) for stage in stages)

    def _evaluation(self) -> str:
        weights = {"params": self._initial.params, "batch_stats": self._initial.batch_stats}
        if isinstance(self.splits.eval, PairedSplit):
            return _traced(self.task.embed, weights, self._batch["image"])
        feed = eval_feed(self.splits.eval, self.settings.global_batch_size, **shares(self.mesh))
        with contextlib.closing(feed):
            piece = jax.tree.map(lambda leaf: leaf[0], feed.chunk(0, 1))
        return _traced(make_eval_step(self.task, feed.batch), weights, feed.resident, piece)

    def _ranking(self) -> str:
        """Of classes by the head, which pairs do not ask for."""
        features = jax.ShapeDtypeStruct((8, self.task.head.features_dim), jnp.float32)
        ranking = lambda params, x: self.task.head.apply({"params": params}, x, 3, method="topk")
        return _traced(ranking, self._initial.params["head"], features)

    @functools.cached_property
    def _rows(self) -> list[dict[str, np.ndarray]]:
        with contextlib.closing(self.train):
            return [self.train.chunk(step, 1) for step in range(min(_STEPS, self.train.steps_per_epoch))]

    @functools.cached_property
    def _batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        first = jax.tree.map(lambda leaf: leaf[0], self._rows[0])
        return jax.eval_shape(self.train.batch, self.train.resident, first)

    @functools.cached_property
    def _initialisation(self) -> tuple[str, TrainState]:
        """The program that makes the state, and the shapes of what it makes."""
        make = lambda: unboxed(_boxed_state(self.task, self.optimizer, self.average, self.settings.seed))
        traced, state = jax.make_jaxpr(make, return_shape=True)()
        return _text(traced) + str(jax.tree.structure(state)), state

    @property
    def _initial(self) -> TrainState:
        return self._initialisation[1]


def _traced(program: Callable, *arguments) -> str:
    """The program's operations, with the constants that it closes over."""
    return _text(jax.make_jaxpr(program)(*arguments))


def _text(traced: jax.extend.core.ClosedJaxpr) -> str:
    """Without the addresses of functions in memory."""
    return re.sub(r"0x[0-9a-f]+", "", str(traced)) + _hash([np.asarray(const) for const in traced.consts])


def _hash(tree) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree, is_leaf=lambda leaf: dataclasses.is_dataclass(leaf)):
        if dataclasses.is_dataclass(leaf):
            fields = {field.name: getattr(leaf, field.name) for field in dataclasses.fields(leaf)}
            digest.update(_hash([type(leaf).__name__, fields]).encode())
        elif isinstance(leaf, np.ndarray):
            digest.update(f"{leaf.dtype} {leaf.shape} ".encode() + np.ascontiguousarray(leaf).tobytes())
        elif scipy.sparse.issparse(leaf):
            digest.update(_hash([leaf.shape, leaf.indptr, leaf.indices, leaf.data]).encode())
        else:
            digest.update(re.sub(r"0x[0-9a-f]+", "", repr(leaf)).encode() + b";")
    return digest.hexdigest()
