"""Thresholds on probabilities, one for each group of labels, that do best on examples whose labels are known."""

import numpy as np

from mhe_jax.evaluation.pairs_of_labels import LabelPairs

MAXIMIZE = ("micro_f1", "macro_f1", "example_f1")
_TURNS = 100
# Of a score and of a precision: what rounding may make of it elsewhere, in batches of another size.
_ROUNDING = 1e-6


def best_thresholds(pairs: LabelPairs, group_of_label: np.ndarray, maximize: str) -> np.ndarray:
    """The thresholds that maximise an F1, exactly, over all choices of one for each group.

    A label is predicted where its score is at least its group's threshold. `micro_f1` is a ratio of sums over groups:
    Dinkelbach's iteration (Management Science, 1967) turns it into a sum, which each group maximises alone.

    Args:
      pairs: of examples that the model was not trained on.
      group_of_label: int [L], from 0.
      maximize: one of `MAXIMIZE`; `example_f1` is one of all labels together, which has one group.

    Returns:
      float64 [G]; of a group without a true pair the best threshold of all labels together.

    Raises:
      ValueError: for `example_f1` of several groups, and if no pair is true.
    """
    if not pairs.positives:
        raise ValueError("no example that thresholds could be chosen on has a label")
    several = bool(group_of_label.any())
    if maximize == "example_f1" and several:
        raise ValueError("--maximize=example_f1 chooses one threshold for all labels: set --per=global")
    order = _Order(pairs, group_of_label)
    if maximize == "micro_f1":
        ends = _micro(order, pairs)
    else:
        by_example = maximize == "example_f1"
        of, counts = (pairs.row, pairs.row_counts) if by_example else (pairs.label, pairs.label_counts)
        ends = order.best_ends(_f1_steps(pairs, of, counts, by_example)[order.places])
    return _filled(order, ends, pairs, lambda: best_thresholds(pairs, np.zeros_like(group_of_label), maximize), several)


def precision_thresholds(pairs: LabelPairs, group_of_label: np.ndarray, precision: float) -> np.ndarray:
    """The lowest thresholds at which the pairs predicted in each group have at least a precision; else as before.

    Returns:
      float64 [G], infinite where no threshold reaches it.
    """
    order = _Order(pairs, group_of_label)
    hits, number = order.sums(pairs.hit[order.places].astype(np.float64)), order.sums(np.ones(len(order.places)))
    reached = np.where(order.is_end & (hits >= precision * number * (1 - _ROUNDING)), np.arange(len(hits)), -1)
    ends = np.full(order.groups, -1)
    np.maximum.at(ends, order.group, reached)
    several = bool(group_of_label.any())
    return _filled(
        order, ends, pairs, lambda: precision_thresholds(pairs, np.zeros_like(group_of_label), precision), several
    )


class _Order:
    """The pairs by group and from the highest score to the lowest.

    places: int [M] into the pairs; group, score: of each, in that order; is_end: bool [M], whether a threshold can part
    it from the next.
    """

    def __init__(self, pairs: LabelPairs, group_of_label: np.ndarray):
        group = group_of_label[pairs.label]
        self.places = np.lexsort((-pairs.score, group))
        self.group, self.score = group[self.places], pairs.score[self.places].astype(np.float64)
        self.groups = int(group_of_label.max(initial=0)) + 1
        self.is_end = np.ones(len(self.places), bool)
        self.is_end[:-1] = (np.diff(self.group) != 0) | (np.diff(self.score) != 0)
        self._starts = np.searchsorted(self.group, self.group)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Of each place, the sum of the values [M] of its group up to it."""
        total = np.concatenate([[0.0], np.cumsum(values)])
        return total[1:] - total[self._starts]

    def best_ends(self, gains: np.ndarray) -> np.ndarray:
        """Of each group the first place up to which the sum of the gains [M] is largest; -1 where none is above 0."""
        sums = np.where(self.is_end, self.sums(gains), -np.inf)
        best = np.zeros(self.groups)
        np.maximum.at(best, self.group, sums)
        found = np.flatnonzero((sums == best[self.group]) & (sums > 0))[::-1]
        ends = np.full(self.groups, -1)
        ends[self.group[found]] = found  # the first comes last
        return ends

    def thresholds(self, ends: np.ndarray) -> np.ndarray:
        """Of each group the middle between the score at its end and the next lower one, or just below its last: [G]."""
        found = np.full(self.groups, np.inf)
        known = ends >= 0
        at = ends[known]
        after = np.minimum(at + 1, len(self.score) - 1)
        last = (at + 1 >= len(self.score)) | (self.group[after] != self.group[at])
        middle = (self.score[at] + self.score[after]) / 2
        # Of two scores without a number between them it is one of both.
        found[known] = np.where(middle <= self.score[after], self.score[at], middle)
        found[known] = np.where(last, self.score[at] * (1 - _ROUNDING), found[known])
        return found


def _micro(order: _Order, pairs: LabelPairs) -> np.ndarray:
    hit = pairs.hit[order.places].astype(np.float64)
    hits, number = order.sums(hit), order.sums(np.ones(len(hit)))
    best = 0.0
    for _ in range(_TURNS):
        ends = order.best_ends(2 * hit - best)
        at = ends[ends >= 0]
        now = 2 * hits[at].sum() / (number[at].sum() + pairs.positives)
        if now <= best:
            break
        best = now
    return ends


def _f1_steps(pairs: LabelPairs, of: np.ndarray, counts: np.ndarray, empty_counts: bool) -> np.ndarray:
    """By how much the F1 of a pair's row or label changes with it, once all of higher scores are predicted: [M].

    With `empty_counts` it is 1 where nothing is true and nothing predicted, and is lost with the first prediction.
    """
    order = np.lexsort((-pairs.score, of))
    sorted_of, hit = of[order], pairs.hit[order]
    start = np.searchsorted(sorted_of, sorted_of)
    total = np.concatenate([[0], np.cumsum(hit)])
    number = np.arange(len(of)) - start + 1
    hits = total[1:] - total[start]
    f1 = lambda hits, number: 2 * hits / np.maximum(number + counts[sorted_of], 1)
    steps = np.empty(len(of))
    empty = (counts[sorted_of] == 0) & (number == 1) & empty_counts
    steps[order] = f1(hits, number) - np.where(empty, 1.0, f1(hits - hit, number - 1))
    return steps


def _filled(order: _Order, ends: np.ndarray, pairs: LabelPairs, overall, several: bool) -> np.ndarray:
    """The thresholds of the groups, those of groups without a true pair being the `overall` one."""
    found = order.thresholds(ends)
    if several:
        true = np.zeros(order.groups, bool)
        true[order.group[pairs.hit[order.places]]] = True
        if not true.all():
            found[~true] = overall()[0]
    return found
