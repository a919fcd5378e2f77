"""How likely a label is to be noticed by whoever labelled the data, by its frequency (Jain et al., KDD 2016).

Rare labels are often missing where they belong. Propensity-scored metrics weigh a hit by the inverse of the chance that
the label was written down.
"""

import numpy as np
import scipy.sparse


def require_model(propensity: tuple[float, ...]) -> None:
    """Raises ValueError unless `config.data.propensity` is A and B of the model."""
    if len(propensity) != 2 or min(propensity) <= 0:
        raise ValueError(f"config.data.propensity is {propensity}; it must be two positive numbers, A and B")


def inverse_propensity(labels: scipy.sparse.csr_matrix, a: float, b: float) -> np.ndarray:
    """1 / p = 1 + C (n + b)^-a with C = (ln N - 1) (b + 1)^a for a label of n of the N training documents.

    Args:
      labels: CSR [N, L] of the training documents; a value that is not 0 counts once, whatever its relevance.
      a: A of the formula.
      b: B of the formula.

    Returns:
      float32 [L], at least 1. Two documents or one, for which C would be negative, give 1.

    Raises:
      ValueError: if there are no documents.
    """
    num_documents, num_labels = labels.shape
    if num_documents == 0:
        raise ValueError("inverse propensities need training documents, and there are none")
    counts = np.bincount(labels.indices[labels.data != 0], minlength=num_labels)
    return inverse_propensity_of(counts, num_documents, a, b)


def inverse_propensity_of(counts: np.ndarray, num_documents: int, a: float, b: float) -> np.ndarray:
    """`inverse_propensity` of labels that `counts`, int [L], of the documents have."""
    c = max(np.log(num_documents) - 1, 0.0) * (b + 1) ** a
    return (1 + c * (counts + b) ** -a).astype(np.float32)
