"""How many training examples each class has, as far as a split says without reading pictures."""

from typing import Any

import numpy as np
from jaxtyping import Int
from scipy import sparse

from mhe_jax.data.known_labels import known_labels

_INSTEAD = "for codes, write the classes, the most frequent ones first, into a file, and set codes.name = 'file'"


def class_counts(
    train: Any, num_classes: int, asked: str = "config.codes.name is 'frequency'"
) -> Int[np.ndarray, "classes"]:
    """Examples of each class, int64 [C]; a document counts for each of its labels.

    Args:
      train: the training split, with ids as labels.
      num_classes: C.
      asked: what asks for it, for messages.

    Raises:
      ValueError: if the labels are known only by reading all examples, or there are none.
    """
    labels = known_labels(train)
    if labels is None:
        raise ValueError(f"{asked}, but these pictures tell their classes only as they are read: {_INSTEAD}")
    counts = np.bincount(labels.indices if sparse.issparse(labels) else np.asarray(labels), minlength=num_classes)
    if not counts.any():
        raise ValueError(f"{asked}, but no training example has a class")
    return counts
