"""What a ranking of labels is worth: the metrics of `mhe_jax.ops.ranking`, of whole matrices on the host."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from mhe_jax.data.ragged import pad_rows
from mhe_jax.evaluation.baselines.ranker import widest
from mhe_jax.ops.ranking import drop_filtered, ranking_metrics

KS = (1, 3, 5)
# One program each: operation by operation, they would take seconds to compile.
_drop_filtered = jax.jit(drop_filtered, static_argnums=3)
_ranking_metrics = jax.jit(ranking_metrics, static_argnums=3)


def measure(
    ids: np.ndarray,
    labels: scipy.sparse.csr_matrix,
    filtered: scipy.sparse.csr_matrix | None,
    inverse: np.ndarray | None,
) -> dict[str, float]:
    """The metrics of rankings, NaN where nothing was counted; documents without labels are not.

    Args:
      ids: int [M, K] labels, best first, -1 where there is none.
      labels: CSR [M, L] of true labels.
      filtered: CSR [M, L], labels that are neither ranked nor wanted; then K must be 5 more than most rows have.
      inverse: inverse propensities float32 [L]; None leaves the propensity-scored metrics out.

    Raises:
      ValueError: if the rankings are too short.
    """
    counted = np.diff(labels.indptr) > 0
    ids, labels, filtered = ids[counted], labels[counted], None if filtered is None else filtered[counted]
    ranked = jnp.asarray(ids)
    true = labels.astype(bool).astype(np.float32)
    if filtered is not None:
        dropped = _padded(filtered.tocsr())
        _, ranked = _drop_filtered(jnp.zeros(ids.shape), ranked, jnp.asarray(dropped), max(KS))
        true = true - true.multiply(filtered)
    true.eliminate_zeros()
    true.sort_indices()
    weights = None if inverse is None else jnp.asarray(inverse)
    parts = _ranking_metrics(ranked, jnp.asarray(_padded(true, 1)), weights, KS)
    sums = {name: [float(np.asarray(part, np.float64).sum()) for part in both] for name, both in parts.items()}
    return {
        name: numerator / denominator if denominator else math.nan for name, (numerator, denominator) in sums.items()
    }


def _padded(matrix: scipy.sparse.csr_matrix, least: int = 0) -> np.ndarray:
    """The columns of each row, padded with -1: int32 [M, W] with W at least `least`."""
    return pad_rows(matrix.indices, matrix.indptr[:-1], np.diff(matrix.indptr), max(widest(matrix), least), -1)
