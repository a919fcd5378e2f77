"""A calibrated mixture of rankings: a logistic regression says from all members' scores how likely a label is.

Of each label that a member ranks for a document the regression sees, for each member, the log-odds of its score (the
document's lowest of that member where it did not rank the label), 1 / (1 + place), and whether it ranked the label.
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.ragged import top_of
from mhe_jax.inference import predictions
from mhe_jax.inference.fusion import BLOCK, Matrices, log_odds, row_minimum, sigmoid, widest

FEATURES = ("log_odds", "reciprocal_place", "ranked")


@dataclasses.dataclass(frozen=True)
class Mixture:
    """weights: float64 [members, 3], of `FEATURES`; bias: of the log-odds that they add up to."""

    weights: np.ndarray
    bias: float

    def combine(self, matrices: Matrices, top_k: int = predictions.TOP_K) -> scipy.sparse.csr_matrix:
        """The `top_k` labels: the members' CSR matrices [N, L] -> CSR float32 [N, L] of probabilities."""
        blocks = []
        for start in range(0, matrices[0].shape[0], BLOCK):
            union, features = candidates([matrix[start : start + BLOCK] for matrix in matrices])
            union.data = sigmoid(features @ self.weights.ravel() + self.bias)
            blocks.append(predictions.csr_of(*top_of(union, top_k), union.shape[1]))
        return scipy.sparse.vstack(blocks, format="csr")

    def as_data(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"features": list(FEATURES), "weights": self.weights.tolist(), "bias": self.bias}


def fit_mixture(matrices: Matrices, labels: scipy.sparse.csr_matrix) -> Mixture:
    """The mixture that makes the true labels of documents most likely.

    Args:
      matrices: the members' CSR [N, L] of positive scores, at most 1, of documents that none of them was trained on.
      labels: CSR [N, L] of true labels.

    Raises:
      ValueError: if all the labels that the members rank are true, or none is.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    union, features = candidates(matrices)
    true = _values_at(union, labels.astype(bool).astype(np.float64)) > 0
    if true.all() or not true.any():
        raise ValueError("a mixture needs documents some of whose ranked labels are true, and some are not")
    # Columns of one size: the small penalty, which keeps what never varies at 0, is then the same for all.
    scale = np.maximum(features.std(axis=0), 1e-6)
    model = LogisticRegression(max_iter=1000).fit(features / scale, true)
    return Mixture((model.coef_[0] / scale).reshape(len(matrices), len(FEATURES)), float(model.intercept_[0]))


def candidates(matrices: Matrices) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """The labels that any member ranks, CSR [N, L] with C entries, and features float64 [C, members * 3] of each."""
    union = sum((matrix.astype(bool).astype(np.float64) for matrix in matrices[1:]), matrices[0].astype(np.float64))
    union = scipy.sparse.csr_matrix(union)
    union.sort_indices()
    counts = np.diff(union.indptr)
    features = np.zeros((union.nnz, len(matrices), len(FEATURES)))
    for number, matrix in enumerate(matrices):
        odds = log_odds(matrix.data)
        lowest = row_minimum(odds, matrix.indptr)
        # Above the lowest by at least 1, so that a stored value is never 0.
        shifted = scipy.sparse.csr_matrix(
            (odds - np.repeat(lowest, np.diff(matrix.indptr)) + 1, matrix.indices, matrix.indptr), matrix.shape
        )
        found = _values_at(union, shifted)
        ids, _ = top_of(matrix, max(widest(matrix), 1))
        worth = np.broadcast_to(1 / (1 + np.arange(ids.shape[1])), ids.shape)
        features[:, number, 0] = np.maximum(found - 1, 0) + np.repeat(lowest, counts)
        features[:, number, 1] = _values_at(union, predictions.csr_of(ids, worth, matrix.shape[1]))
        features[:, number, 2] = found > 0
    return union, features.reshape(union.nnz, -1)


def _values_at(union: scipy.sparse.csr_matrix, matrix: scipy.sparse.csr_matrix) -> np.ndarray:
    """float64 [C]: what CSR [N, L] holds at each entry of `union`, sorted, row by row; 0 where it holds nothing."""
    values = np.zeros(union.nnz)
    if union.nnz:
        there = matrix.tocoo()
        number = lambda row, col: row.astype(np.int64) * union.shape[1] + col
        keys = number(np.repeat(np.arange(union.shape[0]), np.diff(union.indptr)), union.indices)
        wanted = number(there.row, there.col)
        place = np.minimum(np.searchsorted(keys, wanted), union.nnz - 1)
        same = keys[place] == wanted
        values[place[same]] = there.data[same]
    return values
