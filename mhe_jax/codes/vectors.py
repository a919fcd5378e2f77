"""Vectors of classes from those of their examples."""

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int


class ClassMeans:
    """Adds up the vectors of examples by class.

    Attributes:
      counts: examples of each class so far, int64 [C].
    """

    def __init__(self, num_classes: int, dims: int):
        self._sums = np.zeros((num_classes, dims), np.float32)
        self.counts = np.zeros(num_classes, np.int64)

    def add(self, vectors: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n *width"]) -> None:
        """Vectors of N examples with one label each, or with up to W and -1 where there is none."""
        labels = labels.reshape(len(vectors), -1)
        rows, columns = np.nonzero(labels >= 0)
        classes, place, counts = np.unique(labels[rows, columns], return_inverse=True, return_counts=True)
        # A product of matrices adds many times faster than one entry after the other.
        ones = np.ones(len(rows), np.float32)
        chosen = scipy.sparse.csr_matrix((ones, (place, rows)), (len(classes), len(vectors)))
        self._sums[classes] += chosen @ vectors
        self.counts[classes] += counts

    @property
    def vectors(self) -> Float[np.ndarray, "classes d"]:
        """The direction of each class's mean, of length 1; 0 where there is none."""
        lengths = np.linalg.norm(self._sums, axis=1, keepdims=True)
        return np.divide(self._sums, lengths, out=np.zeros_like(self._sums), where=lengths > 0)

    @property
    def means(self) -> Float[np.ndarray, "classes d"]:
        """The mean of each class; 0 where there is none."""
        return self._sums / np.maximum(self.counts, 1)[:, None].astype(np.float32)

    @property
    def present(self) -> Bool[np.ndarray, "classes"]:
        """Which classes have examples."""
        return self.counts > 0
