"""One-vs-rest: a linear classifier for each label, the strongest of the old baselines on sparse features.

Squared hinge loss and small weights set to 0, as DiSMEC (Babbar and Schoelkopf, WSDM 2017), by LIBLINEAR's dual
coordinate descent, which scikit-learn's LinearSVC runs.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse
import tqdm

from mhe_jax.evaluation.baselines.ranker import Rows

_BLOCK = 2**24  # margins that are dense at a time, 8 bytes each
_TASK = 64  # labels that a thread trains before it hands them over
_TOLERANCE = 0.01  # DiSMEC's
_SLOPE = 6.0  # from margins to log-odds, as fitted on held-out titles of YSO
_ALWAYS = 1.0  # margin of a label that all training rows have


class OneVsRest:
    """A LinearSVC for each label that a training row has; the others are never ranked.

    A `mhe_jax.evaluation.baselines.ranker.Ranker`. Its score is the sigmoid of 6 times the margin.
    """

    def __init__(self, *, cost: float = 1.0, prune: float = 0.01, threads: int = 0, block: int = _BLOCK):
        """Says how to train.

        Args:
          cost: C of LIBLINEAR, what a margin that is too small costs beside the weights.
          prune: weights of smaller magnitude are dropped, so that all classifiers fit into memory.
          threads: that train, a label each; 0 is one for each core. Each holds a copy of the rows, 16 bytes a value.
          block: margins that are in memory at a time while ranking.
        """
        self._cost, self._prune, self._block = cost, prune, block
        self._threads = threads or os.cpu_count() or 1

    def fit(self, rows: Rows, labels: scipy.sparse.csr_matrix) -> None:
        """Trains all classifiers, see `Ranker.fit`."""
        columns = labels.astype(bool).tocsc()
        columns.eliminate_zeros()
        self._labels = np.flatnonzero(np.diff(columns.indptr)).astype(np.int32)
        # What LIBLINEAR computes in; otherwise each label would convert the rows once more.
        values = rows.astype(np.float64)
        tasks = [self._labels[start : start + _TASK] for start in range(0, len(self._labels), _TASK)]
        weights, biases = [], []
        with (
            ThreadPoolExecutor(self._threads) as pool,
            tqdm.tqdm(total=len(self._labels), desc="one-vs-rest", unit=" labels", disable=None) as bar,
        ):
            # LIBLINEAR leaves the interpreter to the other threads.
            for found, bias in pool.map(lambda task: self._train(values, columns[:, task]), tasks):
                weights.append(found)
                biases.append(bias)
                bar.update(len(bias))
        self._weights = scipy.sparse.vstack(weights, format="csr").T.tocsr()
        self._biases = np.concatenate(biases)

    def rank(self, rows: Rows, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The labels of the largest margins, see `Ranker.rank`."""
        number, kept = rows.shape[0], min(k, len(self._labels))
        ids, scores = np.full((number, k), -1, np.int32), np.zeros((number, k), np.float32)
        step = max(1, self._block // len(self._labels))
        for start in range(0, number, step):
            product = rows[start : start + step].astype(np.float64) @ self._weights
            margins = (product.toarray() if scipy.sparse.issparse(product) else product) + self._biases
            best = np.sort(np.argpartition(-margins, kept - 1, axis=1)[:, :kept], axis=1)
            worth = np.take_along_axis(margins, best, axis=1)
            order = np.argsort(-worth, axis=1, kind="stable")
            ids[start : start + step, :kept] = self._labels[np.take_along_axis(best, order, axis=1)]
            scores[start : start + step, :kept] = _sigmoid(np.take_along_axis(worth, order, axis=1))
        return ids, scores

    def _train(self, rows: Rows, columns: scipy.sparse.csc_matrix) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
        """Weights CSR float32 [labels, D] and biases [labels] of some labels' columns, CSC bool [N, labels]."""
        from sklearn.svm import LinearSVC  # slow to import

        kept, biases = [], np.empty(columns.shape[1])
        for place in range(columns.shape[1]):
            has = columns[:, [place]].toarray()[:, 0]
            if has.all():
                weights, biases[place] = np.zeros((1, rows.shape[1])), _ALWAYS
            else:
                model = LinearSVC(C=self._cost, dual=True, tol=_TOLERANCE, random_state=0).fit(rows, has)
                weights, biases[place] = model.coef_, model.intercept_[0]
            weights[np.abs(weights) < self._prune] = 0
            kept.append(scipy.sparse.csr_matrix(weights, dtype=np.float32))
        return scipy.sparse.vstack(kept, format="csr"), biases


def _sigmoid(margins: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-_SLOPE * margins))
