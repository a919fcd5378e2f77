"""What the examples need that choose the best checkpoint, where they have any number of labels."""

import scipy.sparse

from mhe_jax.data.dataset import DataError


def require_labels(labels: scipy.sparse.csr_matrix, where: object, what: str, how: str = "") -> None:
    """Raises DataError, beginning with `where`, if none of the examples to choose on has a label.

    Args:
      labels: CSR [N, L]; what is stored is a label.
      where: the file or folder of the examples.
      what: what they are.
      how: what of the config takes others.
    """
    if not labels.nnz:
        raise DataError(
            f"{where}: none of the {labels.shape[0]} {what} to choose the best checkpoint on has a label: take others"
            f"{how and f', by {how}'}"
        )
