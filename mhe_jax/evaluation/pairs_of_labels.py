"""Rankings of labels against the truth as pairs of an example and a label, each with a score; NumPy on flat arrays."""

import dataclasses

import numpy as np
import scipy.sparse


@dataclasses.dataclass(frozen=True)
class LabelPairs:
    """The M pairs that were scored, of N examples and L labels; a pair that was not counts as not predicted.

    row: int [M], the example; label: int [M]; score: float64 [M], a probability; hit: bool [M], whether it is true.
    row_counts: int [N], true labels of each example, scored or not; label_counts: int [L], examples of each label.
    """

    row: np.ndarray
    label: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    row_counts: np.ndarray
    label_counts: np.ndarray

    @property
    def positives(self) -> int:
        """How many pairs are true, scored or not."""
        return int(self.row_counts.sum())


def label_pairs(ids: np.ndarray, scores: np.ndarray, labels: scipy.sparse.csr_matrix) -> LabelPairs:
    """The pairs of ranked labels.

    Args:
      ids: int [N, K], none twice in a row, -1 where there is none.
      scores: float [N, K], their probabilities.
      labels: CSR [N, L], the true ones.
    """
    there = ids >= 0
    row, label = np.nonzero(there)[0], ids[there].astype(np.int64)
    true_row = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    width = labels.shape[1]
    hit = np.isin(row * width + label, true_row * width + labels.indices, assume_unique=True)
    label_counts = np.bincount(labels.indices, minlength=width)
    return LabelPairs(row, label, scores[there].astype(np.float64), hit, np.diff(labels.indptr), label_counts)


def f1_scores(pairs: LabelPairs, predicted: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of the pairs bool [M] that are predicted.

    `micro_f1` is of all pairs, `macro_f1` the mean over the labels that are true of an example, `example_f1` the mean
    over examples; of an example without labels it is 1 where nothing is predicted, else 0.
    """
    hits, number = int((predicted & pairs.hit).sum()), int(predicted.sum())
    by_label = _f1(pairs.label, predicted, pairs.hit, pairs.label_counts)
    by_row = _f1(pairs.row, predicted, pairs.hit, pairs.row_counts)
    occurs = pairs.label_counts > 0
    return {
        "precision": hits / max(number, 1),
        "recall": hits / max(pairs.positives, 1),
        "micro_f1": 2 * hits / max(number + pairs.positives, 1),
        "macro_f1": float(by_label[occurs].mean()) if occurs.any() else 0.0,
        "example_f1": float(by_row.mean()),
        "labels_predicted": number / len(pairs.row_counts),
    }


def mean_average_precision(pairs: LabelPairs) -> float:
    """The mean over the labels that are true of an example of their average precision, pairs not scored last.

    The average precision of a label is the mean, over its examples, of the precision among those ranked no lower.
    """
    order = np.lexsort((-pairs.score, pairs.label))
    label, hit = pairs.label[order], pairs.hit[order]
    place = np.arange(len(label)) - np.searchsorted(label, label)  # in the ranking of its label, from 0
    hits = np.cumsum(hit) - np.concatenate([[0], np.cumsum(hit)])[np.searchsorted(label, label)]
    gained = np.bincount(label, np.where(hit, hits / (place + 1), 0.0), len(pairs.label_counts))
    occurs = pairs.label_counts > 0
    return float((gained[occurs] / pairs.label_counts[occurs]).mean()) if occurs.any() else 0.0


def _f1(of: np.ndarray, predicted: np.ndarray, hit: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """F1 of each row or label `of` the pairs; 1 where nothing is true and nothing predicted."""
    number = np.bincount(of[predicted], minlength=len(counts))
    hits = np.bincount(of[predicted & hit], minlength=len(counts))
    return np.where(number + counts, 2 * hits / np.maximum(number + counts, 1), 1.0)
