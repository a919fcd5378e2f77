"""Evaluation of a whole split, each example exactly once; in the loop, and by itself as a mode."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from jax.sharding import Mesh

from mhe_jax.data.dataset import PairedSplit, StreamSplit
from mhe_jax.data.feeds import eval_feed
from mhe_jax.train.guided_feed import GuidedFeed
from mhe_jax.train.pairs_evaluator import PairsEvaluator
from mhe_jax.train.parallel import distributed
from mhe_jax.train.parallel.mesh import CHUNK, place, replicate, shares, whole
from mhe_jax.train.reporting import metrics
from mhe_jax.train.step import make_eval_step

# Of weights and a batch, traced: arrays [B, ...] by name.
Keep = Callable[[dict, dict], dict[str, jax.Array]]


class Evaluation(NamedTuple):
    """`sums(weights, resident, chunk)` of the batch in a chunk of one step, traced.

    `add(sums, weights, resident, chunk) -> (sums, kept)`, compiled: those of the batches so far and this one.
    """

    sums: Callable
    add: Any


def make_evaluation(task, select: Callable, mesh: Mesh, keep: Keep | None = None) -> Evaluation:
    """The program that evaluates a batch, its results whole on every process; `select` as of a feed."""
    step = make_eval_step(task, select)
    piece = lambda chunk: jax.tree.map(lambda x: x[0], chunk)
    # Jitted, so that it is traced once for the shapes and the program.
    sums = jax.jit(lambda weights, resident, chunk: step(weights, resident, piece(chunk)))

    def add(before, weights, resident, chunk):
        found = keep(weights, select(resident, piece(chunk))) if keep else {}
        return metrics.merge(before, sums(weights, resident, chunk)), found

    return Evaluation(sums, jax.jit(add, out_shardings=whole(mesh)))


class Evaluator:
    """Runs a task over a split; the data is placed and the program compiled once.

    `examples` is the number of examples in the last evaluation, unreadable ones left out; `kept` is what `keep` found
    in each of its batches, arrays on the host.
    """

    examples = 0

    def __init__(
        self, task, split: Any, batch_size: int, mesh: Mesh, keep: Keep | None = None, classes: dict | None = None
    ):
        feed = eval_feed(split, batch_size, **shares(mesh))
        self._feed, self._mesh = GuidedFeed(feed, classes) if classes else feed, mesh
        self._may_raise = isinstance(split, StreamSplit) and split.on_bad_example == "raise"
        self._resident = replicate(mesh, self._feed.resident)
        self._program = make_evaluation(task, self._feed.batch, mesh, keep)
        self.kept: list[dict[str, Any]] = []

    def __call__(self, weights: dict, beat: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Means of the task's metrics over the split; `beat` is called for every batch."""
        sums: metrics.Sums = {}
        self.kept = []
        for step in range(self._feed.steps_per_epoch):
            batch = weights, self._resident, place(self._mesh, self._feed.chunk(step, 1), CHUNK)
            sums = sums or self._zeros(*batch)
            before = sums
            sums, found = self._program.add(sums, *batch)
            if found:
                self.kept.append(found)
            # One batch ahead of the devices is enough. With dozens in flight, those of a CPU run out of threads to
            # meet in, and wait for each other for ever.
            jax.block_until_ready(before)
            beat()
        sums, self.kept = jax.device_get((sums, self.kept))
        self.examples = int(sums.pop("examples")[0])
        return metrics.means(sums)

    def compiled(self, weights: dict, shapes_of: Callable[[dict], dict]) -> jax.stages.Compiled:
        """The program of a batch, for weights or their shapes, and what `shapes_of(chunk)` makes of a chunk."""
        chunk = shapes_of(place(self._mesh, self._feed.chunk(0, 1), CHUNK))
        batch = weights, self._resident, chunk
        return self._program.add.lower(self._zeros(*batch), *batch).compile()

    def rehearse(self) -> None:
        """Reads this process's examples once, where one that cannot be read would end an evaluation.

        Raises:
          BadExample: for the first of them, naming it.
        """
        if self._may_raise:
            for step in range(self._feed.steps_per_epoch):
                self._feed.chunk(step, 1)

    def _zeros(self, *batch) -> metrics.Sums:
        shapes = jax.eval_shape(self._program.sums, *batch)
        return replicate(self._mesh, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))

    @property
    def bad_examples(self) -> int:
        """How many unreadable examples were met so far; every process of a run has to ask."""
        return distributed.bad_examples(self._feed)

    def draw(self, workdir: pathlib.Path) -> None:
        """Plots what the last evaluation found, beyond its figures: nothing here."""

    def close(self) -> None:
        """Stops loading."""
        self._feed.close()


def has_answers(split: Any) -> bool:
    """Whether there is anything to measure: of examples with many labels each, any label at all."""
    many = getattr(split, "many", None)
    labels: Any = getattr(split, "labels", None) if many is None else many.labels
    return not scipy.sparse.issparse(labels) or labels.nnz > 0


def build_evaluator(
    task, split: Any, batch_size: int, mesh: Mesh, keep: Keep | None = None, classes: dict | None = None
) -> Evaluator | PairsEvaluator:
    """What evaluates a split: examples one by one, `keep` as in `Evaluator`, or pairs by the embeddings of all.

    `classes` are those of `class_bands`, for figures by the frequency of the classes.
    """
    if isinstance(split, PairedSplit):
        return PairsEvaluator(task, split, batch_size, mesh)
    return Evaluator(task, split, batch_size, mesh, keep, classes)
