"""What an evaluation by frequency needs of the classes, for the device."""

from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.codes.frequencies import class_counts
from mhe_jax.data.dataset import PairedSplit
from mhe_jax.data.known_labels import known_labels
from mhe_jax.evaluation import bands
from mhe_jax.labels import LabelCodes
from mhe_jax.settings import Settings


def class_bands(settings: Settings, by_id: Any, name: str, codes: LabelCodes) -> dict[str, np.ndarray]:
    """'band' int8 [C] and, of one label an example, 'eval_count' int32 [C], by code; {} where nobody asks for them.

    Args:
      settings: with `eval_bands`.
      by_id: the splits, with ids as labels.
      name: of the one that is evaluated, 'eval' or 'test'.
      codes: which class has which code.

    Raises:
      ValueError: if `config.eval_bands` is malformed, or the examples do not say how many each class has.
    """
    if not settings.eval_bands:
        return {}
    split = getattr(by_id, name)
    if isinstance(split, PairedSplit):
        raise ValueError(f"config.eval_bands is {settings.eval_bands!r}, but pairs of faces have no classes")
    asked = f"config.eval_bands is {settings.eval_bands!r}"
    counts = class_counts(by_id.train, codes.num_classes, asked)
    found = {"band": codes.in_code_order(bands.bands_of(counts, settings.eval_bands))}
    if not scipy.sparse.issparse(known_labels(split)):
        found["eval_count"] = codes.in_code_order(class_counts(split, codes.num_classes, asked)).astype(np.int32)
    return found
