"""Are two faces of one person? Accuracy over ten folds, and the receiver operating characteristic (ROC) of the pairs.

FAR, the false accept rate: the share of pairs of different people that are taken for the same. TAR, the true accept
rate: the share of pairs of one person that are.

Accuracy is measured twice. The published protocol chooses among 400 squared distances, 0.01 apart; embeddings that lie
close together, as those of a young run do, all fall between two of them, and then it says nothing although the ROC is
perfect. `kfold_accuracy` chooses among all thresholds that tell pairs apart; `published_accuracy` is comparable with
what others report.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mhe_jax.data.dataset import Pairs
from mhe_jax.data.faces.pairing import NUM_FOLDS
from mhe_jax.evaluation.similarity import lengths, pair_distances, pair_similarities

FARS = ("1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6")
THRESHOLDS = np.arange(0, 4, 0.01)  # of the squared distance
_COLLAPSED = 0.02  # two steps of that grid


class FoldAccuracy(NamedTuple):
    """Mean and standard deviation of the folds' accuracies, and the mean of their thresholds as a cosine."""

    accuracy: float
    std: float
    threshold: float


def kfold_accuracy(embeddings: np.ndarray, pairs: Pairs) -> FoldAccuracy:
    """Accuracy on each tenth of the pairs, in their order, with the threshold that is best on the other nine.

    Two faces are the same where their cosine is at least the threshold, which lies in the middle between two
    neighbouring cosines of the nine tenths, -1 and 1 included; the largest of equally good ones. Two equal embeddings
    are thus always the same.

    Args:
      embeddings: float32 [N, D] of any length; usually the sum of a picture's and its mirror image's.
      pairs: P pairs of rows of `embeddings`.

    Raises:
      ValueError: if there are less than ten pairs, or embeddings that are not finite.
    """
    tests = list(_folds(pairs))
    similarities = pair_similarities(embeddings, pairs.first, pairs.second).astype(np.float64)
    order = np.argsort(-similarities, kind="stable")
    thresholds, accuracies = [], []
    for test in tests:
        rest = order[(order < test.start) | (order >= test.stop)]
        thresholds.append(_best_threshold(similarities[rest], pairs.same[rest]))
        accuracies.append(np.mean((similarities[test] >= thresholds[-1]) == pairs.same[test]))
    return FoldAccuracy(float(np.mean(accuracies)), float(np.std(accuracies)), float(np.mean(thresholds)))


def _best_threshold(similarities: np.ndarray, same: np.ndarray) -> float:
    """The threshold that is right about most pairs, whose similarities descend: float64 [P], bool [P]."""
    # Right answers, but for a constant, if the first 0, 1 .. P pairs are accepted.
    right = np.concatenate([[0], np.cumsum(np.where(same, 1, -1))])
    bounds = np.concatenate([[1.0], similarities, [-1.0]])
    # Equal similarities are accepted together; so nothing separates a similarity of 1 from what is always accepted.
    cuts = np.flatnonzero(bounds[:-1] > bounds[1:])
    best = cuts[np.argmax(right[cuts])]
    return float((bounds[best] + bounds[best + 1]) / 2)


def published_accuracy(embeddings: np.ndarray, pairs: Pairs) -> FoldAccuracy:
    """`kfold_accuracy` with the thresholds of the published protocol.

    Two faces are the same where the squared distance of the normalised embeddings is less than the threshold, one of
    0, 0.01 .. 3.99, the first of equally good ones. The protocol of LFW (Huang et al., 2007) as FaceNet's and
    ArcFace's published code has it.
    """
    tests = list(_folds(pairs))
    distances = pair_distances(embeddings, pairs.first, pairs.second)
    # The first threshold that accepts a pair; all that follow do too.
    first_above = np.searchsorted(THRESHOLDS, distances, side="right")
    right = np.stack([_right_answers(first_above[test], pairs.same[test]) for test in tests])
    best = np.argmax(right.sum(axis=0) - right, axis=1)
    accuracies = right[np.arange(NUM_FOLDS), best] / [test.stop - test.start for test in tests]
    return FoldAccuracy(
        accuracy=float(np.mean(accuracies)),
        std=float(np.std(accuracies)),
        threshold=float(1 - np.mean(THRESHOLDS[best]) / 2),
    )


def _folds(pairs: Pairs) -> Iterator[slice]:
    """Ten contiguous parts, the first ones with a pair more where they cannot be equal (scikit-learn's KFold)."""
    count = len(pairs.same)
    if count < NUM_FOLDS:
        raise ValueError(f"{pairs.name} has {count} pairs; accuracy over {NUM_FOLDS} folds needs at least {NUM_FOLDS}")
    short, longer = divmod(count, NUM_FOLDS)
    start = 0
    for fold in range(NUM_FOLDS):
        stop = start + short + (fold < longer)
        yield slice(start, stop)
        start = stop


def _right_answers(first_above: np.ndarray, same: np.ndarray) -> np.ndarray:
    """How many pairs each threshold is right about: int [P], bool [P] -> int [thresholds]."""
    accepted = [np.bincount(first_above[kind], minlength=len(THRESHOLDS) + 1).cumsum() for kind in (same, ~same)]
    return (accepted[0] + np.count_nonzero(~same) - accepted[1])[:-1]


@dataclasses.dataclass(frozen=True)
class Roc:
    """FAR and TAR, float64 [points], at every threshold that tells pairs apart, from (0, 0) up to (1, 1).

    positives, negatives: how many pairs are of one person, and of two.
    """

    far: np.ndarray
    tar: np.ndarray
    positives: int
    negatives: int

    def tar_at(self, far: float) -> float:
        """The largest TAR at a FAR of at most `far`; NaN if `far` is below 1/negatives, which no pair measures."""
        if far < 1 / self.negatives:
            return float("nan")
        return float(self.tar[np.searchsorted(self.far, far, side="right") - 1])

    @property
    def auc(self) -> float:
        """The area under the curve."""
        import sklearn.metrics  # slow to import

        return float(sklearn.metrics.auc(self.far, self.tar))

    @property
    def eer(self) -> float:
        """The equal error rate: FAR where it is 1 - TAR, on the straight line between neighbouring points."""
        excess = self.far - (1 - self.tar)  # rises from -1 to 1
        after = int(np.searchsorted(excess, 0))
        share = excess[after - 1] / (excess[after - 1] - excess[after])
        return float(self.far[after - 1] + share * (self.far[after] - self.far[after - 1]))

    @property
    def figures(self) -> dict[str, float]:
        """`auc`, `eer`, `tar@1e-1` .. `tar@1e-6`, see `tar_at`, and `tar@0`, the TAR before the first false accept."""
        rates = {f"tar@{far}": self.tar_at(float(far)) for far in FARS}
        return {"auc": self.auc, "eer": self.eer, **rates, "tar@0": float(self.tar[self.far == 0].max())}

    @property
    def unmeasured(self) -> str:
        """Why figures are NaN, in a sentence; empty if none is."""
        missing = [far for far in FARS if float(far) < 1 / self.negatives]
        if not missing:
            return ""
        return f"no TAR at a FAR of {', '.join(missing)}: one of the {self.negatives} negatives is more than that"


def roc(similarities: np.ndarray, same: np.ndarray) -> Roc:
    """The ROC of P pairs that are accepted from a similarity on: float [P], bool [P].

    Raises:
      ValueError: unless there are pairs of both kinds.
    """
    import sklearn.metrics  # slow to import

    positives = int(np.count_nonzero(same))
    negatives = len(same) - positives
    if not (positives and negatives):
        raise ValueError(f"a ROC needs pairs of both kinds, but {positives} are the same and {negatives} different")
    far, tar, _ = sklearn.metrics.roc_curve(same, similarities, drop_intermediate=False)
    return Roc(far, tar, positives, negatives)


def evaluate_pairs(embeddings: np.ndarray, pairs: Pairs) -> dict[str, float]:
    """All figures of a set of pairs: `accuracy`, `accuracy_std`, `threshold` (a cosine), and those of `Roc.figures`.

    `published_accuracy` and its `_std` are those of the published protocol, for comparison with what others report.
    `zero_embeddings` counts the pairs with an embedding of length 0. Figures that the pairs cannot measure are NaN:
    those of the ROC if all are the same or all different, and a TAR at too small a FAR, see `Roc.tar_at`.

    Args:
      embeddings: float32 [N, D] of any length.
      pairs: P pairs of rows of `embeddings`.

    Raises:
      ValueError: naming the set, if there are less than ten pairs, or embeddings that are not finite.
    """
    try:
        zero = lengths(embeddings) == 0
    except ValueError as error:
        raise ValueError(f"{pairs.name}: {error}") from None
    folds, published = kfold_accuracy(embeddings, pairs), published_accuracy(embeddings, pairs)
    if pairs.same.all() or not pairs.same.any():
        curve = dict.fromkeys(("auc", "eer", *(f"tar@{far}" for far in FARS), "tar@0"), float("nan"))
    else:
        curve = roc(pair_similarities(embeddings, pairs.first, pairs.second), pairs.same).figures
    return {
        "accuracy": folds.accuracy,
        "accuracy_std": folds.std,
        "threshold": folds.threshold,
        "published_accuracy": published.accuracy,
        "published_accuracy_std": published.std,
        **curve,
        "zero_embeddings": float(np.count_nonzero(zero[pairs.first] | zero[pairs.second])),
    }


def collapse(embeddings: np.ndarray, pairs: Pairs) -> str:
    """That nearly all pairs of different people have nearly one embedding, in a sentence; empty if they do not."""
    other = ~pairs.same
    if not other.any():
        return ""
    distances = pair_distances(embeddings, pairs.first[other], pairs.second[other])
    most = float(np.quantile(distances, 0.9))
    if most >= _COLLAPSED:
        return ""
    return (
        f"{pairs.name}: embeddings have collapsed: of nine in ten pairs of different people the cosine is above "
        f"{1 - most / 2:.6f}, and the published accuracy cannot tell them apart"
    )
