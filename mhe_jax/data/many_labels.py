"""Many labels an example, beside examples that are loaded one by one: the columns of a batch."""

import dataclasses
import functools

import numpy as np
import scipy.sparse

from mhe_jax.data.ragged import columns_of


@dataclasses.dataclass(frozen=True)
class ManyLabels:
    """The labels of the N examples of one split.

    labels: CSR [N, L]; what is stored is a label.
    ignored: CSR [N, L], labels of which it is not known whether an example has them, if there are any.
    inverse_propensity: float32 [L], if the split is evaluated with it.
    """

    labels: scipy.sparse.csr_matrix
    ignored: scipy.sparse.csr_matrix | None = None
    inverse_propensity: np.ndarray | None = None

    @functools.cached_property
    def widths(self) -> tuple[int, int]:
        """The most labels, at least 1, and the most ignored ones that an example has."""
        widest = lambda matrix: 0 if matrix is None else int(np.diff(matrix.indptr).max(initial=0))
        return max(widest(self.labels), 1), widest(self.ignored)

    def of(self, rows: np.ndarray, evaluates: bool) -> dict[str, np.ndarray]:
        """The labels of examples int [B], padded with -1.

        Returns:
          'label' int32 [B, W], and where an example of the split has ignored ones these int32 [B, F], for training as
          'ignored', for evaluation as 'filtered'.
        """
        width, ignored = self.widths
        found = {"label": columns_of(self.labels, rows, width)}
        if self.ignored is not None and ignored:
            found["filtered" if evaluates else "ignored"] = columns_of(self.ignored, rows, ignored)
        return found

    @property
    def resident(self) -> dict[str, np.ndarray]:
        """What of it lies on the device."""
        return {} if self.inverse_propensity is None else {"inverse_propensity": self.inverse_propensity}
