"""The baseline that a trained text model must beat: the labels of the nearest training documents, by TF-IDF."""

import math
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
import scipy.sparse
import tqdm

from mhe_jax.data.dataset import DataError
from mhe_jax.data.ragged import pad_rows, top_of
from mhe_jax.ops.ranking import ranking_metrics

KS = (1, 3, 5)
_BLOCK = 2**26  # similarities that are dense at a time, 4 bytes each


class NearestDocuments:
    """Ranks labels by the summed cosine similarity of those of the nearest training documents that have them."""

    def __init__(
        self,
        texts: Iterable[str],
        labels: scipy.sparse.csr_matrix,
        *,
        neighbors: int = 15,
        max_features: int = 0,
        block: int = _BLOCK,
    ):
        """Takes the training documents.

        Args:
          texts: N texts, which are not kept.
          labels: CSR [N, L]; relevances do not count.
          neighbors: how many documents to ask, the first of equally near ones.
          max_features: most frequent words to use; 0 uses all.
          block: similarities that are in memory at a time.

        Raises:
          DataError: if no text has a word of two letters or more.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import

        self._vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=max_features or None, dtype=np.float32)
        try:
            vectors = self._vectorizer.fit_transform(texts)
        except ValueError as error:
            raise DataError(f"the training texts cannot be compared: {error}") from error
        self._columns = vectors.T.tocsr()
        self._has_label = labels.astype(bool).astype(np.float32)
        self._neighbors = min(neighbors, labels.shape[0])
        self._rows = max(1, block // labels.shape[0])

    def rank(self, texts: Iterable[str], k: int, filtered: scipy.sparse.csr_matrix | None = None) -> np.ndarray:
        """int32 [M, k]: the best labels of each text, the lower number first of equals; -1 where there are no more.

        Args:
          texts: M texts.
          k: how many labels.
          filtered: CSR bool [M, L], labels to leave out.
        """
        vectors = self._vectorizer.transform(texts)
        ranked = [np.zeros((0, k), np.int32)]
        for start in tqdm.trange(0, vectors.shape[0], self._rows, desc="TF-IDF", unit=" blocks", disable=None):
            block = slice(start, start + self._rows)
            scores = self._nearest(vectors[block]) @ self._has_label
            if filtered is not None:
                scores -= scores.multiply(filtered[block])
            scores.eliminate_zeros()
            ranked.append(top_of(scores, k)[0])
        return np.concatenate(ranked)

    def _nearest(self, vectors: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        """The similarities to the nearest training documents, and nothing for the others: [m, W] -> [m, N]."""
        similarity = (vectors @ self._columns).toarray()
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


def measure(
    ids: np.ndarray,
    labels: scipy.sparse.csr_matrix,
    filtered: scipy.sparse.csr_matrix | None,
    inverse: np.ndarray,
) -> dict[str, float]:
    """The metrics of rankings int [M, k], with inverse propensities float32 [L]; NaN where nothing was counted.

    Documents without labels are not counted.
    """
    counted = np.diff(labels.indptr) > 0
    ids, labels, filtered = ids[counted], labels[counted], None if filtered is None else filtered[counted]
    true = labels.astype(bool).astype(np.float32)
    if filtered is not None:
        true = true - true.multiply(filtered)
    true.eliminate_zeros()
    true.sort_indices()
    counts = np.diff(true.indptr)
    padded = pad_rows(true.indices, true.indptr[:-1], counts, int(counts.max(initial=1)), -1)
    parts = ranking_metrics(jnp.asarray(ids), jnp.asarray(padded), jnp.asarray(inverse), KS)
    sums = {name: [float(np.asarray(part, np.float64).sum()) for part in both] for name, both in parts.items()}
    return {
        name: numerator / denominator if denominator else math.nan for name, (numerator, denominator) in sums.items()
    }
