"""Are two faces of one person? Accuracy over ten folds, and the receiver operating characteristic (ROC) of the pairs.

FAR, the false accept rate: the share of pairs of different people that are taken for the same. TAR, the true accept
rate: the share of pairs of one person that are.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from mhe_jax.data.dataset import Pairs
from mhe_jax.evaluation.similarity import lengths, pair_distances, pair_similarities

FARS = ("1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6")
NUM_FOLDS = 10
THRESHOLDS = np.arange(0, 4, 0.01)  # of the squared distance


class FoldAccuracy(NamedTuple):
    """Mean and standard deviation of the folds' accuracies, and the mean of their thresholds as a cosine."""

    accuracy: float
    std: float
    threshold: float


def kfold_accuracy(embeddings: np.ndarray, pairs: Pairs) -> FoldAccuracy:
    """Accuracy on each tenth of the pairs, in their order, with the threshold that is best on the other nine.

    Two faces are the same where the squared distance of the normalised embeddings is less than the threshold, one of
    0, 0.01 .. 3.99, the first of equally good ones. The protocol of LFW (Huang et al., 2007) as FaceNet's and
    ArcFace's published code has it.

    Args:
      embeddings: float32 [N, D] of any length; usually the sum of a picture's and its mirror image's.
      pairs: P pairs of rows of `embeddings`.

    Raises:
      ValueError: if there are less than ten pairs, or embeddings that are not finite.
    """
    from sklearn.model_selection import KFold  # slow to import

    count = len(pairs.same)
    if count < NUM_FOLDS:
        raise ValueError(f"{pairs.name} has {count} pairs; accuracy over {NUM_FOLDS} folds needs at least {NUM_FOLDS}")
    distances = pair_distances(embeddings, pairs.first, pairs.second)
    # The first threshold that accepts a pair; all that follow do too.
    first_above = np.searchsorted(THRESHOLDS, distances, side="right")
    folds = [fold for _, fold in KFold(NUM_FOLDS).split(first_above)]
    right = np.stack([_right_answers(first_above[fold], pairs.same[fold]) for fold in folds])
    best = np.argmax(right.sum(axis=0) - right, axis=1)
    accuracies = right[np.arange(NUM_FOLDS), best] / [len(fold) for fold in folds]
    return FoldAccuracy(
        accuracy=float(np.mean(accuracies)),
        std=float(np.std(accuracies)),
        threshold=float(1 - np.mean(THRESHOLDS[best]) / 2),
    )


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
    folds = kfold_accuracy(embeddings, pairs)
    if pairs.same.all() or not pairs.same.any():
        curve = dict.fromkeys(("auc", "eer", *(f"tar@{far}" for far in FARS), "tar@0"), float("nan"))
    else:
        curve = roc(pair_similarities(embeddings, pairs.first, pairs.second), pairs.same).figures
    return {
        "accuracy": folds.accuracy,
        "accuracy_std": folds.std,
        "threshold": folds.threshold,
        **curve,
        "zero_embeddings": float(np.count_nonzero(zero[pairs.first] | zero[pairs.second])),
    }
