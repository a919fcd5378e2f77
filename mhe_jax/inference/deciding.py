"""Which of the best classes of an example are answered: all of them, or those of a probability that is high enough."""

import numpy as np

from mhe_jax.evaluation.hierarchy import Hierarchy
from mhe_jax.inference.decision import KEPT, Decision, model_of, read_decision, require_decision
from mhe_jax.inference.opened import Trained

AUTO = "auto"


class Deciding:
    """What `threshold` makes of rankings.

    Args:
      trained: the run.
      threshold: None answers all classes; a number those whose probability is at least that; 'auto' those that the
        run's stored decision answers, with calibrated probabilities.
      hierarchy: a tree above the classes, at whose groups answers stop.

    Raises:
      ValueError: for another threshold, and for 'auto' where the run has no decision, or one of another model.
    """

    def __init__(self, trained: Trained, threshold: float | str | None, hierarchy: Hierarchy | None = None):
        self._decision: Decision | None = None
        self._hierarchy = hierarchy
        self._threshold = 0.0
        self._classes = trained.num_live
        if threshold == AUTO:
            require_decision(trained.workdir)  # before all weights of a published run are read
            model = model_of(trained.workdir, trained.step, trained.classes)
            self._decision = read_decision(trained.workdir, model)
        elif threshold is not None:
            self._threshold = number(threshold)

    @property
    def decides_one(self) -> bool:
        """Whether there is a decision, of one class an example."""
        return self._decision is not None and self._decision.one_class

    def asked(self, top_k: int) -> int:
        """How many classes have to be asked of the head for answers of `top_k`."""
        return max(top_k, min(KEPT, self._classes)) if self._decision or self._hierarchy else top_k

    def __call__(self, ids: np.ndarray, scores: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Of classes int [N, K], best first, -1 for none, and their probabilities those that are answered.

        Returns:
          ids and probabilities [N, top_k], best first; -1 and 0 where there are no more.
        """
        if self._decision:
            scores = self._decision.calibrated(np.where(ids < 0, 0.0, scores))
            kept = self._decision.accepted(ids, scores)
            if self._decision.one_class:
                # The others cannot be the class where the best one is none.
                kept &= kept[:, :1] & (np.arange(ids.shape[1]) == 0)
        else:
            kept = (ids >= 0) & (scores >= self._threshold)
        order = np.argsort(~kept, axis=1, kind="stable")[:, :top_k]
        answered = np.where(kept, ids, -1), np.where(kept, scores, 0.0)
        return np.take_along_axis(answered[0], order, axis=1), np.take_along_axis(answered[1], order, axis=1)

    def nodes(self, ids: np.ndarray, scores: np.ndarray) -> list[tuple[str, float] | None]:
        """The group or class at which the answer to each example stops, '' at the root, and its probability.

        None of each where there is no tree. The arguments are those of a call, of as many classes as are `asked`.
        """
        if self._hierarchy is None:
            return [None] * len(ids)
        threshold = self._threshold
        if self._decision:
            scores = self._decision.calibrated(np.where(ids < 0, 0.0, scores))
            threshold = float(self._decision.thresholds[0])
        found, mass = self._hierarchy.stopped(ids, scores, threshold)
        names = ("" if node < 0 else self._hierarchy.names[node] for node in found)
        return list(zip(names, mass.tolist(), strict=True))


def stop_at(threshold: float | str | None, decision: Decision | None) -> float | None:
    """The probability of which an answer has to be sure; raises ValueError for 'auto' without a decision."""
    if threshold != AUTO:
        return None if threshold is None else number(threshold)
    if decision is None:
        raise ValueError("--threshold=auto: the run has no decision: `mhe decide RUN` makes it, or name a probability")
    return float(decision.thresholds[0])


def number(threshold: float | str) -> float:
    """A threshold as a number; raises ValueError unless it is one from 0 to 1."""
    try:
        value = float(threshold)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"threshold is {threshold!r}; it must be 'auto', or a probability from 0 to 1")
    return value
