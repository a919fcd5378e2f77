"""Programs that a run needs later, compiled before its first step where memory may be short: a run that will not fit
says so at its start, and not at its first long batch or its first evaluation."""

from collections.abc import Callable
from typing import Any

import jax

from mhe_jax.train.reporting import report
from mhe_jax.train.stages import Stage

# Of the device's memory, what the first step has to take for others to be looked at: theirs is of its order, and to
# compile them takes time.
_SHARE = 0.25
_BY_LENGTH = ("input_ids", "feature_ids", "feature_values")


def check_memory(
    first: Any,
    stage: Stage,
    evaluator: Any,
    data: Any,
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
      data: the data set.
      arguments: state, resident data, chunk and count of the first step.
      weights: that are evaluated, or shapes.
      task: that is trained.
      batch: examples of a step.
      say: is told.

    Raises:
      ValueError: if one of them takes more memory than there is.
    """
    if report.share_of_memory(first) < _SHARE:
        return
    state, resident, chunk, count = arguments
    longest = _longest(data, chunk, batch)
    if longest != _shapes(chunk):
        memory = stage.program.lower(state, resident, longest, count).compile().memory_analysis()
        say(report.memory_line(memory, "train step of the longest texts"))
        report.check_memory(memory, task, batch, "a train step of the longest texts")
    memory = evaluator.compiled(weights, lambda chunk: _longest(data, chunk, batch)).memory_analysis()
    say(report.memory_line(memory, "evaluation of a batch"))
    report.check_memory(memory, task, batch, "an evaluation")


def _shapes(chunk: dict[str, jax.Array]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for name, leaf in chunk.items()}


def _longest(data: Any, chunk: dict[str, jax.Array], batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a chunk, where it is of texts of the longest ones."""
    shapes, longest = _shapes(chunk), data.abstract_batch(batch)
    return {
        name: leaf.update(shape=(*leaf.shape[:-1], longest[name].shape[-1])) if name in _BY_LENGTH else leaf
        for name, leaf in shapes.items()
    }
