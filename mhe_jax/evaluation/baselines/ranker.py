"""What the baselines on rows of features and many labels have in common."""

from typing import Protocol, TypeAlias

import numpy as np
import scipy.sparse

# Features [N, D], sparse or not.
Rows: TypeAlias = scipy.sparse.csr_matrix | np.ndarray


class Ranker(Protocol):
    """Learns from rows of features and their labels, and ranks the labels of others."""

    def fit(self, rows: Rows, labels: scipy.sparse.csr_matrix) -> None:
        """Takes the training rows.

        Args:
          rows: float32 [N, D], CSR or an array.
          labels: CSR [N, L] of the same rows; a value that is not 0 is a label, whatever its relevance.
        """

    def rank(self, rows: Rows, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best labels of each row, best first.

        Args:
          rows: float32 [M, D], as those of `fit`.
          k: how many labels.

        Returns:
          ids int32 [M, k], -1 where there are no more, and scores float32 [M, k] from 0 to 1, 0 there.
        """


def widest(labels: scipy.sparse.csr_matrix) -> int:
    """The most labels that a row of CSR [N, L] has."""
    return int(np.diff(labels.indptr).max(initial=0))
