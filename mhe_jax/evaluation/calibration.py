"""Probabilities that say how often they are right: temperature, isotonic regression, and how far off they are."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

KINDS = ("none", "temperature", "isotonic")
BINS = 15
_TINY = 1e-7  # a probability of a float32 sigmoid that is 0 or 1
_TEMPERATURES = 0.05, 20.0
_IMPOSSIBLE = math.log(1e-300)  # instead of the logarithm of 0


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A map of probabilities that keeps their order within an example.

    kind: one of `KINDS`. temperature: what logits are divided by (Guo et al., ICML 2017).
    x, y: float64 [n], of isotonic regression (Zadrozny and Elkan, KDD 2002): the points between which it is linear.
    """

    kind: str = "none"
    temperature: float = 1.0
    x: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    y: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    def of_labels(self, scores: np.ndarray) -> np.ndarray:
        """Of probabilities of labels, each for itself: float of any shape, the same shape."""
        if self.kind == "temperature":
            inside = np.clip(scores.astype(np.float64), _TINY, 1 - _TINY)
            return 1 / (1 + np.exp(-(np.log(inside) - np.log1p(-inside)) / self.temperature))
        return np.interp(scores, self.x, self.y) if self.kind == "isotonic" else scores

    def of_classes(self, scores: np.ndarray, num_classes: int) -> np.ndarray:
        """Of the probabilities of an example's best K of C classes, which exclude each other: float [N, K], the same.

        A temperature needs the others too: what is left of 1 is shared equally among them. Isotonic regression is about
        the best class: the others share what it leaves in proportion to what they had, and none exceeds it.
        """
        if self.kind == "temperature":
            return np.exp(_heated(scores, num_classes, self.temperature)[0])
        if self.kind == "isotonic" and scores.shape[1]:
            others = scores[:, 1:].astype(np.float64)
            best, rest = self.of_labels(scores[:, :1]), np.maximum(1 - scores[:, :1], others.sum(axis=1)[:, None])
            shared = others * ((1 - best) / np.maximum(rest, _TINY))
            return np.concatenate([best, np.minimum(shared, best)], axis=1)
        return self.of_labels(scores)


def fit_labels(kind: str, scores: np.ndarray, hit: np.ndarray) -> Calibration:
    """The calibration of probabilities float [M] of labels that are there, or not, bool [M]."""
    if kind == "isotonic":
        return _isotonic(scores, hit)
    if kind == "none":
        return Calibration()
    inside = np.clip(scores.astype(np.float64), _TINY, 1 - _TINY)
    signed = np.where(hit, 1, -1) * (np.log(inside) - np.log1p(-inside))
    return _coolest(lambda temperature: np.logaddexp(0, -signed / temperature).mean())


def fit_classes(kind: str, scores: np.ndarray, correct: np.ndarray, num_classes: int) -> Calibration:
    """The calibration of the probabilities of the best K of C classes of each example.

    Isotonic regression is that of the first class, the one that is answered.

    Args:
      kind: one of `KINDS`.
      scores: float [N, K], best first.
      correct: bool [N, K], which of them is the class.
      num_classes: C.
    """
    if kind == "isotonic":
        return _isotonic(scores[:, 0], correct[:, 0])
    if kind == "none":
        return Calibration()
    place, found = correct.argmax(axis=1), correct.any(axis=1)

    def loss(temperature: float) -> float:
        logs, rest = _heated(scores, num_classes, temperature)
        own = np.where(found, logs[np.arange(len(logs)), place], rest)
        # What is impossible is so at every temperature.
        return float(-np.where(np.isneginf(own), _IMPOSSIBLE, own).mean())

    return _coolest(loss)


class Reliability(NamedTuple):
    """Of equal parts of 0 .. 1: mean probability and share of hits, NaN where a part is empty, and the number in it."""

    score: np.ndarray
    rate: np.ndarray
    number: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of probability and share (Naeini et al., AAAI 2015)."""
        there = self.number > 0
        off = np.abs(self.score[there] - self.rate[there])
        return float((off * self.number[there]).sum() / max(self.number.sum(), 1))


def reliability(scores: np.ndarray, hit: np.ndarray, bins: int = BINS) -> Reliability:
    """How often probabilities float [M] were right, bool [M]."""
    part = np.minimum((scores * bins).astype(np.int64), bins - 1)
    number = np.bincount(part, minlength=bins)
    mean = lambda values: np.where(number, np.bincount(part, values, bins) / np.maximum(number, 1), np.nan)
    return Reliability(mean(scores), mean(hit.astype(np.float64)), number)


def _isotonic(scores: np.ndarray, hit: np.ndarray) -> Calibration:
    from sklearn.isotonic import IsotonicRegression  # slow to import

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, hit)
    return Calibration("isotonic", x=np.asarray(fitted.X_thresholds_), y=np.asarray(fitted.y_thresholds_))


def _coolest(loss) -> Calibration:
    """The temperature of the lowest loss."""
    from scipy.optimize import minimize_scalar  # slow to import

    bounds = tuple(map(math.log, _TEMPERATURES))
    found = minimize_scalar(lambda log: loss(math.exp(log)), bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return Calibration("temperature", temperature=math.exp(found.x))


def _heated(scores: np.ndarray, num_classes: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the probabilities at a temperature, float64 [N, K], and of each class that is not there, [N]."""
    others = num_classes - scores.shape[1]
    left = np.maximum(1 - scores.sum(axis=1, dtype=np.float64), 0.0) / max(others, 1)
    with np.errstate(divide="ignore"):  # the logarithm of 0
        logs, rest = np.log(scores.astype(np.float64)) / temperature, np.log(left) / temperature
        total = np.logaddexp(np.logaddexp.reduce(logs, axis=1), rest + np.log(others))
    # Where nothing is possible, that stays so.
    total = np.where(np.isneginf(total), 0.0, total)
    return logs - total[:, None], rest - total
