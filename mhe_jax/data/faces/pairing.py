"""Verification sets that are drawn instead of read: as many pairs of one identity as of two, in every fold."""

import numpy as np

from mhe_jax.data.dataset import Pairs

MIN_PAIRS = 20  # one of each kind in each of ten folds


def require_num_pairs(num_pairs: int) -> None:
    """Raises ValueError unless config.data.num_pairs can be balanced in each of ten contiguous folds."""
    if num_pairs < MIN_PAIRS or num_pairs % 2:
        raise ValueError(f"config.data.num_pairs is {num_pairs}; it must be an even number of at least {MIN_PAIRS}")


def alternate(name: str, same: np.ndarray, different: np.ndarray) -> Pairs:
    """Pairs of one identity and of two by turns, so that contiguous folds, which protocols make, are balanced.

    Args:
      name: of the set.
      same, different: int [n, 2] into the pictures.

    Returns:
      2 n pairs, the first of one identity.
    """
    both = np.stack([same, different], axis=1).reshape(-1, 2).astype(np.int32)
    return Pairs(name, both[:, 0], both[:, 1], np.arange(len(both)) % 2 == 0)
