"""Evaluation of embeddings on verification sets: all pictures are embedded, then their pairs compared on the host."""

import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from mhe_jax.data.dataset import PairedSplit
from mhe_jax.data.feeds import eval_feed
from mhe_jax.evaluation.roc_plot import plot_roc
from mhe_jax.evaluation.similarity import pair_similarities
from mhe_jax.evaluation.verification import Roc, collapse, evaluate_pairs, roc
from mhe_jax.train.parallel import distributed
from mhe_jax.train.parallel.mesh import CHUNK, place, replicate, shares, whole


class PairsEvaluator:
    """Runs the protocol of `mhe_jax.evaluation.verification` on every set of a split.

    `examples` is the number of pictures in the last evaluation.
    """

    examples = 0

    def __init__(self, task, split: PairedSplit, batch_size: int, mesh: Mesh):
        self._split, self._mesh = split, mesh
        self._feed = eval_feed(split.images, batch_size, **shares(mesh))
        self._resident = replicate(mesh, self._feed.resident)
        self._curves: dict[str, Roc] = {}
        self._embed = make_embed(task, self._feed.batch, mesh)

    def __call__(self, weights: dict, beat: Callable[[], None] = lambda: None) -> dict[str, float]:
        """`accuracy`, `threshold` (a cosine) and `auc`, means over the sets; each set's figures as `<set>_<figure>`.

        Figures that a set cannot measure are left out, and `auc` if none can. Embeddings that have collapsed are warned
        of. `beat` is called for every batch.
        """
        embeddings = self._all_embeddings(weights, beat)
        self.examples = len(embeddings)
        found: dict[str, dict[str, float]] = {}
        self._curves = {}
        for pairs in self._split.pairs:
            found[pairs.name] = evaluate_pairs(embeddings, pairs)
            if distributed.is_main() and (sentence := collapse(embeddings, pairs)):
                logging.warning(sentence)
            if pairs.same.any() and not pairs.same.all():
                similarities = pair_similarities(embeddings, pairs.first, pairs.second)
                self._curves[pairs.name] = roc(similarities, pairs.same)
        flat = {f"{set_name}_{name}": value for set_name, values in found.items() for name, value in values.items()}
        means = {name: _mean([values[name] for values in found.values()]) for name in ("accuracy", "threshold", "auc")}
        return {name: value for name, value in {**means, **flat}.items() if not math.isnan(value)}

    def compiled(self, weights: dict, shapes_of: Callable[[dict], dict]) -> jax.stages.Compiled:
        """As that of `Evaluator`: the program that embeds a batch."""
        chunk = shapes_of(place(self._mesh, self._feed.chunk(0, 1), CHUNK))
        return self._embed.lower(weights, self._resident, chunk).compile()

    def rehearse(self) -> None:
        """Nothing: data sets read all pictures of a verification set when they are loaded."""

    @property
    def bad_examples(self) -> int:
        """None: a picture that cannot be read makes another set of its pairs, so data sets refuse it."""
        return 0

    def draw(self, workdir: pathlib.Path) -> None:
        """Plots the ROC curves of the last evaluation as `<workdir>/roc.png`."""
        if self._curves:
            plot_roc(self._curves, workdir / "roc.png")

    def close(self) -> None:
        """Stops loading."""
        self._feed.close()

    def _all_embeddings(self, weights: dict, beat: Callable[[], None]) -> np.ndarray:
        """Embeddings of the split's pictures, float32 [N, D]."""
        parts = []
        for step in range(self._feed.steps_per_epoch):
            chunk = place(self._mesh, self._feed.chunk(step, 1), CHUNK)
            parts.append(jax.device_get(self._embed(weights, self._resident, chunk)))
            beat()
        return np.concatenate(parts)[: self._split.num_examples]  # the last batch is filled up


def _mean(values: list[float]) -> float:
    """The mean of those that were measured; NaN if none was."""
    measured = [value for value in values if not math.isnan(value)]
    return float(np.mean(measured)) if measured else math.nan


def make_embed(task, select: Callable, mesh: Mesh) -> Any:
    """Compiled `embed(weights, resident, chunk of one step) -> embeddings [B, D]`, whole on every process."""

    def embed(weights: dict, resident: Any, chunk: Any):
        batch = select(resident, jax.tree.map(lambda leaf: leaf[0], chunk))
        return task.embed(weights, task.asked(batch))

    return jax.jit(embed, out_shardings=whole(mesh))
