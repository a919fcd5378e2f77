"""Programs that a run needs later, compiled before its first step where memory may be short: a run that will not fit
says so at its start, and not at its first long batch or its first evaluation."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mhe_jax.data.texts.buckets import fit
from mhe_jax.train.reporting import report
from mhe_jax.train.stages import Stage

# Of the device's memory, what a step of the longest texts has to take, by the first step's and the lengths of both, for
# later programs to be looked at: theirs is of its order, and to compile them takes time.
_SHARE = 0.25


def check_memory(
    first: Any,
    stage: Stage,
    evaluator: Any,
    splits: Any,
    arguments: tuple[Any, ...],
    weights: Any,
    *,
    task: Any,
    batch: int,
    say: Callable[[str], object],
) -> None:
    """Compiles the step of the longest texts, and the evaluation of a batch, and says what they take.

    Args:
      first: memory analysis of the first step's program.
      stage: that takes most.
      evaluator: `Evaluator` or `PairsEvaluator`.
      splits: what is trained on and evaluated.
      arguments: state, resident data, chunk and count of the first step.
      weights: that are evaluated, or shapes.
      task: that is trained.
      batch: examples of a step.
      say: is told.

    Raises:
      ValueError: if one of them takes more memory than there is.
    """
    state, resident, chunk, count = arguments
    longest, shapes = _longest(splits.train, chunk), _shapes(chunk)
    times_as_long = max(longest[name].shape[-1] / max(leaf.shape[-1], 1) for name, leaf in shapes.items())
    if report.share_of_memory(first) * times_as_long < _SHARE:
        return
    if longest != shapes:
        memory = stage.program.lower(state, resident, longest, count).compile().memory_analysis()
        say(report.memory_line(memory, "train step of the longest texts"))
        report.check_memory(memory, task, batch, "a train step of the longest texts")
    memory = evaluator.compiled(weights, lambda chunk: _longest(splits.eval, chunk)).memory_analysis()
    say(report.memory_line(memory, "evaluation of a batch"))
    report.check_memory(memory, task, batch, "an evaluation")


def _shapes(chunk: dict[str, jax.Array]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for name, leaf in chunk.items()}


def _longest(split: Any, chunk: dict[str, jax.Array]) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a chunk, of the longest texts of the split if it is of texts."""
    shapes, lengths = _shapes(chunk), getattr(split, "lengths", None)
    if lengths is None or not len(lengths):
        return shapes
    (longest,) = fit(split.bucket_lengths, np.array([min(lengths.max(), split.bucket_lengths[-1])]))
    names = ("input_ids",) if "input_ids" in shapes else ("feature_ids", "feature_values")
    return {
        name: leaf.update(shape=(*leaf.shape[:-1], int(longest))) if name in names else leaf
        for name, leaf in shapes.items()
    }
