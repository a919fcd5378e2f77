"""What a verification set needs to be measured in folds; and sets that are drawn, as many of one identity as of two."""

import pathlib

import numpy as np

from mhe_jax.data.dataset import DataError, Pairs

NUM_FOLDS = 10  # over which accuracy is measured
MIN_PAIRS = 2 * NUM_FOLDS  # one of each kind in each


def require_num_pairs(num_pairs: int) -> None:
    """Raises ValueError unless config.data.num_pairs can be balanced in each of ten contiguous folds."""
    if num_pairs < MIN_PAIRS or num_pairs % 2:
        raise ValueError(f"config.data.num_pairs is {num_pairs}; it must be an even number of at least {MIN_PAIRS}")


def require_folds(path: pathlib.Path, num_pairs: int) -> None:
    """Raises DataError unless a set that is read has a pair for each fold: better now than at the first evaluation."""
    if num_pairs < NUM_FOLDS:
        raise DataError(f"{path} has {num_pairs} pairs; accuracy over {NUM_FOLDS} folds needs at least {NUM_FOLDS}")


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
