"""What the evaluation of a split says beyond the metrics of its task: of decisions, calibration and single classes."""

import dataclasses
import functools
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from mhe_jax.evaluation import by_class
from mhe_jax.evaluation.hierarchy import Hierarchy
from mhe_jax.evaluation.pairs_of_labels import f1_scores, mean_average_precision
from mhe_jax.inference.decide import calibration_error, measured
from mhe_jax.inference.decision import KEPT, Decision
from mhe_jax.inference.scored import Scored, keep_scored
from mhe_jax.tasks.verification import Verification
from mhe_jax.train.evaluator import Keep
from mhe_jax.train.experiment import Classes

# Scores that are kept of a split at most; of more only the task's own metrics are known.
_MOST = 50_000_000
_EVEN = 0.5


@dataclasses.dataclass(frozen=True)
class Figures:
    """What is measured.

    task: of the run. classes: their names. decision: of the run, if it has one.
    hierarchy: the tree above the classes, if there is one; stop: the probability of which answers have to be sure, that
      stop at a group otherwise, of one class an example. calibrated_stop: whether that is the decision's, of calibrated
      probabilities.
    """

    task: Any
    classes: Classes
    decision: Decision | None = None
    hierarchy: Hierarchy | None = None
    stop: float | None = None
    calibrated_stop: bool = False

    @property
    def one_class(self) -> bool:
        """Whether an example has one class."""
        return bool(self.task.one_class)

    def keep(self, num_examples: int) -> Keep | None:
        """What has to be kept of each batch; None where nothing is measured here."""
        if isinstance(self.task, Verification):
            return None
        few = lambda kept: num_examples * min(kept, self.classes.number) <= _MOST
        kept = KEPT if not self.one_class or self._of_more else 1
        if few(kept):
            return keep_scored(self.task, kept)
        if self._of_more and few(1):
            self._tell(num_examples, " and ".join(self._of_more), "need more than the best class of each")
            return keep_scored(self.task, 1)
        self._tell(num_examples, "all figures but the metrics of the task", "need classes of each")
        return None

    @property
    def _of_more(self) -> tuple[str, ...]:
        """What more than the best class is needed for, of one class an example."""
        if not self.one_class:
            return ()
        # A decision is about the best class, but what a temperature makes of that depends on the others.
        heated = self.decision is not None and self.decision.calibration.kind == "temperature"
        return (*["decided"] * heated, *["hierarchy.stopped"] * (self.stop is not None))

    def _tell(self, num_examples: int, what: str, why: str) -> None:
        warnings.warn(f"{what} of {num_examples:,} examples are left out: they {why}", stacklevel=3)

    def _is_whole(self, found: Scored) -> bool:
        """Whether more than the best class of each example is kept, or there are no more."""
        return found.ids.shape[1] > 1 or self.task.head.label_space.num_live == 1

    def of(self, found: Scored) -> dict[str, Any]:
        """The figures of a split: `ece`; of many labels an example also `mAP` and the F1 at even odds.

        With a decision, `decided` has what it reaches, see `mhe_jax.inference.decide.measured`; with a tree
        `hierarchy` has the accuracy of each level, see `mhe_jax.evaluation.hierarchy`. Where the best class alone was
        kept of each example, what needs more is left out.
        """
        values: dict[str, Any] = {"ece": calibration_error(found, self.one_class)}
        if not self.one_class:
            pairs = found.pairs()
            values["mAP"] = mean_average_precision(pairs)
            values |= f1_scores(pairs, pairs.score >= _EVEN)
        if self.decision and ("decided" not in self._of_more or self._is_whole(found)):
            values["decided"] = measured(found, self.decision)
        if self.hierarchy:
            values["hierarchy"] = self._levels(found, self.hierarchy)
        return values

    def _levels(self, found: Scored, hierarchy: Hierarchy) -> dict[str, Any]:
        """The accuracy of each level, and hierarchical precision, recall and F1 of what is answered."""
        examples = len(found.ids)
        rows = np.repeat(np.arange(examples), np.diff(found.labels.indptr))
        true = hierarchy.nodes(rows, hierarchy.leaf[found.labels.indices], examples)
        values: dict[str, Any] = {}
        scores = self.decision.calibrated(found.scores) if self.decision else found.scores
        if self.one_class:
            answered = found.ids[:, :1] >= 0
            values["level_accuracy"] = hierarchy.level_accuracy(found.ids[:, 0], found.labels.indices)
        elif self.decision:
            answered = self.decision.accepted(found.ids, scores)
        else:
            answered = (found.ids >= 0) & (scores >= _EVEN)
        row, place = np.nonzero(answered)
        values |= hierarchy.scores(hierarchy.nodes(row, hierarchy.leaf[found.ids[row, place]], examples), true)
        if self.one_class and self.stop is not None and self._is_whole(found):
            node, _ = hierarchy.stopped(found.ids, scores if self.calibrated_stop else found.scores, self.stop)
            stopped = hierarchy.scores(hierarchy.nodes(np.arange(examples), node, examples), true)
            at_class = np.isin(node, hierarchy.leaf)
            values["stopped"] = {**stopped, "at_a_class": float(at_class.mean()), "nowhere": float((node < 0).mean())}
        return values

    def by_class(
        self, found: Scored, keep: Callable[[Callable[[], None]], None], workdir: pathlib.Path | None
    ) -> float:
        """The mean of the classes' accuracies; their files are written by way of `keep`."""
        labels = found.labels.indices.astype(np.int64)
        table = by_class.by_class(labels, found.ids[:, 0], self.classes.number)
        if workdir is not None:
            keep(functools.partial(by_class.write, table, self.classes.name, workdir))
        return table.macro_accuracy
