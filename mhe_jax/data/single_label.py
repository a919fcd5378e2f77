"""One label an example, of data that may have any number."""

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError


def require_one_label(labels: scipy.sparse.csr_matrix, where: str) -> None:
    """Raises DataError, beginning with `where` and naming an example, unless each has one label; or none of them any.

    Args:
      labels: CSR [N, L].
      where: the file or folder of the examples.
    """
    counts = np.diff(labels.indptr)
    if counts.any() and (counts != 1).any():
        first = int((counts != 1).argmax())
        raise DataError(
            f"{where}: example {first + 1} has {counts[first]} labels, but config.data.single_label asks for one each "
            f"({(counts != 1).sum()} of {len(counts)} have another number): set it to False"
        )
