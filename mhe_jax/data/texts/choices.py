"""Which documents are held out of training, and which some are where not all are wanted: the same in every data set."""

import math

import numpy as np

from mhe_jax.data.dataset import DataError

_VALIDATION_SEED = 1240  # of the published system
_SUBSET_SEED = 0


def require_share_or_number(valid_examples: float) -> None:
    """Raises ValueError unless `config.data.valid_examples`, not negative, is a share below 1 or a whole number."""
    if not (valid_examples < 1 or valid_examples % 1 == 0):
        raise ValueError(
            f"config.data.valid_examples is {valid_examples}; it must be a share below 1 or a whole number"
        )


def held_out(valid_examples: float, documents: int, source: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the documents that train and of those that are held out, drawn as in the published system.

    Args:
      valid_examples: how many, or below 1 their share.
      documents: how many there are.
      source: for messages.

    Raises:
      DataError: if none is left to train on.
    """
    size = math.ceil(valid_examples * documents) if valid_examples < 1 else int(valid_examples)
    if size >= documents:
        raise DataError(
            f"config.data.valid_examples is {valid_examples:.15g} but {source} has {documents} documents: none is left "
            "to train on"
        )
    if not size:
        return np.arange(documents), np.arange(0)
    from sklearn.model_selection import train_test_split  # slow to import

    kept, out = train_test_split(np.arange(documents), test_size=size, random_state=_VALIDATION_SEED)
    return kept, out


def some(documents: int, limit: int) -> np.ndarray | None:
    """The numbers of at most `limit` documents, always the same ones, smaller choices within larger; None takes all."""
    if not 0 < limit < documents:
        return None
    return np.random.default_rng(_SUBSET_SEED).permutation(documents)[:limit]
