"""The baseline that a trained model must beat: the labels of the nearest training documents, by cosine similarity."""

from typing import Any

import numpy as np
import scipy.sparse
import tqdm

from mhe_jax.data.ragged import top_of
from mhe_jax.evaluation.baselines.ranker import Rows

_BLOCK = 2**26  # similarities that are dense at a time, 4 bytes each


class NearestRows:
    """Ranks labels by the summed cosine similarity of those of the nearest training rows that have them.

    A `mhe_jax.evaluation.baselines.ranker.Ranker`; its score is that sum divided by the number of rows asked. A row
    that points away, of negative similarity, adds nothing.
    """

    def __init__(self, *, neighbors: int = 15, block: int = _BLOCK):
        """Says whom to ask.

        Args:
          neighbors: how many rows to ask, the first of equally near ones.
          block: similarities that are in memory at a time.
        """
        self._wanted, self._block = neighbors, block

    def fit(self, rows: Rows, labels: scipy.sparse.csr_matrix) -> None:
        """Keeps the training rows, see `Ranker.fit`."""
        unit: Any = _unit(rows)
        self._columns = unit.T.tocsr() if scipy.sparse.issparse(unit) else unit.T
        self._has_label = labels.astype(bool).astype(np.float32)
        self._neighbors = min(self._wanted, labels.shape[0])
        self._rows = max(1, self._block // labels.shape[0])

    def rank(self, rows: Rows, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best labels of each row, the lower number first of equals, see `Ranker.rank`."""
        ids, scores = [np.zeros((0, k), np.int32)], [np.zeros((0, k), np.float32)]
        for start in tqdm.trange(0, rows.shape[0], self._rows, desc="neighbours", unit=" blocks", disable=None):
            found = self._nearest(_unit(rows[start : start + self._rows])) @ self._has_label
            found.eliminate_zeros()
            best, worth = top_of(found, k)
            ids.append(best)
            scores.append(worth / self._neighbors)
        return np.concatenate(ids), np.concatenate(scores)

    def _nearest(self, rows: Rows) -> scipy.sparse.csr_matrix:
        """The similarities to the nearest training rows, and nothing for the others: [m, D] -> [m, N]."""
        product: Any = rows @ self._columns
        similarity = product.toarray() if scipy.sparse.issparse(product) else product
        np.maximum(similarity, 0, out=similarity)
        place = similarity.shape[1] - self._neighbors
        least = np.partition(similarity, place, axis=1)[:, place, None]
        equal = similarity == least
        wanted = self._neighbors - (similarity > least).sum(axis=1, keepdims=True)
        crowded = np.flatnonzero(equal.sum(axis=1, keepdims=True) > wanted)
        similarity[similarity < least] = 0
        # Of equally near ones at the end only the first are taken.
        beyond = equal[crowded] & (np.cumsum(equal[crowded], axis=1, dtype=np.int32) > wanted[crowded])
        similarity[crowded] = np.where(beyond, 0, similarity[crowded])
        return scipy.sparse.csr_matrix(similarity)


def _unit(rows: Rows) -> Rows:
    """The rows as float32 of length 1; empty ones stay so."""
    from sklearn.preprocessing import normalize  # slow to import

    return normalize(rows.astype(np.float32))
