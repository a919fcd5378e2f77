"""The late fusion of several rankings of the same documents' labels: weighted means of what their scores say."""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse

from mhe_jax.data.ragged import top_of
from mhe_jax.inference import predictions

BLOCK = 4096  # documents at a time
# Log-odds are finite between the smallest float32 and the largest below 1.
_LOWEST, _HIGHEST = float(np.finfo(np.float32).tiny), 1 - float(np.finfo(np.float32).epsneg)

Matrices = Sequence[scipy.sparse.csr_matrix]
Weights = Sequence[float]


def by_score(matrices: Matrices, longest: int, weights: Weights) -> scipy.sparse.csr_matrix:
    """The mean of the probabilities, a missing one being 0: CSR matrices [N, L] and their weights -> CSR [N, L]."""
    return _mean(matrices, weights)


def by_sigmoid(matrices: Matrices, longest: int, weights: Weights) -> scipy.sparse.csr_matrix:
    """The sigmoid of the mean log-odds; what is missing has the lowest of its document."""
    above, floors = [], np.zeros(matrices[0].shape[0])
    for matrix, weight in zip(matrices, weights, strict=True):
        odds, counts = _log_odds(matrix.data), np.diff(matrix.indptr)
        # Relative to the row's lowest, what is missing is 0, which a sparse sum leaves out.
        lowest = _row_minimum(odds, matrix.indptr)
        above.append(_with_data(matrix, odds - np.repeat(lowest, counts)))
        floors += weight * lowest
    mean = _mean(above, weights)
    return _with_data(mean, _sigmoid(mean.data + np.repeat(floors / sum(weights), np.diff(mean.indptr))))


def by_rank(matrices: Matrices, longest: int, weights: Weights) -> scipy.sparse.csr_matrix:
    """The mean of 1 - place / longest, with places from 0; what is missing counts 0."""
    worth = 1 - np.arange(longest) / longest

    def ranked(matrix: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        ids, _ = top_of(matrix, longest)
        return predictions.csr_of(ids, np.broadcast_to(worth, ids.shape), matrix.shape[1])

    return _mean([ranked(matrix) for matrix in matrices], weights)


METHODS: dict[str, Callable[[Matrices, int, Weights], scipy.sparse.csr_matrix]] = {
    "score": by_score,
    "sigmoid": by_sigmoid,
    "rank": by_rank,
}


def combine(
    matrices: Matrices, method: str, top_k: int = predictions.TOP_K, weights: Weights | None = None
) -> scipy.sparse.csr_matrix:
    """The `top_k` labels of the fusion.

    Args:
      matrices: CSR [N, L] of positive scores, at most 1.
      method: one of `METHODS`.
      top_k: labels kept of a document.
      weights: of each matrix, only their ratios count; one of weight 0 plays no part. None weighs all the same.

    Returns:
      CSR float32 [N, L].

    Raises:
      ValueError: as `check_weights` does.
    """
    weights = [1.0] * len(matrices) if weights is None else weights
    check_weights(weights, len(matrices))
    # The scale of places is that of all, whichever play a part.
    longest = max(widest(matrix) for matrix in matrices)
    used = [number for number, weight in enumerate(weights) if weight]
    matrices, weights = [matrices[number] for number in used], [weights[number] for number in used]
    documents, num_labels = matrices[0].shape
    blocks = []
    for start in range(0, documents, BLOCK):
        average = METHODS[method]([matrix[start : start + BLOCK] for matrix in matrices], longest, weights)
        blocks.append(predictions.csr_of(*top_of(average, top_k), num_labels))
    return scipy.sparse.vstack(blocks, format="csr")


def check_weights(weights: Weights, number: int) -> None:
    """Raises ValueError unless there are `number` weights, none of them negative and not all of them 0."""
    if len(weights) != number:
        raise ValueError(f"--weights has {len(weights)} numbers for {number} runs: give one for each, in their order")
    if not (np.isfinite(weights).all() and min(weights) >= 0 and max(weights) > 0):
        raise ValueError(f"--weights is {list(weights)}: weights are 0 or more, and at least one is above 0")


def widest(matrix: scipy.sparse.csr_matrix) -> int:
    """The most entries that a row has."""
    return int(np.diff(matrix.indptr).max(initial=0))


def _log_odds(p: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)) of probabilities, float64 and finite."""
    p = np.clip(p.astype(np.float64), _LOWEST, _HIGHEST)
    return np.log(p) - np.log1p(-p)


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    """The probability of log-odds."""
    return 1 / (1 + np.exp(-odds))


def _row_minimum(data: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """The least of each row's values, 0 of an empty row: data [nnz] of a CSR matrix -> float64 [N]."""
    lowest, some = np.zeros(len(indptr) - 1), np.diff(indptr) > 0
    if some.any():
        lowest[some] = np.minimum.reduceat(data, indptr[:-1][some])
    return lowest


def _mean(matrices: Matrices, weights: Weights) -> scipy.sparse.csr_matrix:
    """The weighted mean, entries that are 0 in it included: adding matrices would drop them."""
    parts = [matrix.tocoo() for matrix in matrices]
    row, col = (np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "col"))
    data = np.concatenate([part.data * (weight / sum(weights)) for part, weight in zip(parts, weights, strict=True)])
    return scipy.sparse.coo_matrix((data, (row, col)), matrices[0].shape).tocsr()


def _with_data(matrix: scipy.sparse.csr_matrix, data: np.ndarray) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix((data, matrix.indices, matrix.indptr), matrix.shape)
