"""The labels of a split's examples, as far as they are known without reading any."""

from typing import Any

import scipy.sparse

from mhe_jax.data.dataset import ArraySplit


def ignored_labels(split: Any) -> Any:
    """Labels of which it is not known whether an example has them, of pictures with many: CSR [N, L]; or None."""
    many = getattr(split, "many", None)
    if many is None or many.ignored is None:
        return None
    return many.ignored[split.labels] if isinstance(split, ArraySplit) else many.ignored


def known_labels(split: Any) -> Any:
    """Labels by example: int [N], or where an example may have any number of them CSR [N, L]; None where they are not
    known."""
    many = getattr(split, "many", None)
    if many is not None:
        return many.labels[split.labels] if isinstance(split, ArraySplit) else many.labels
    source = getattr(getattr(split, "load_example", None), "source", None)
    labels: Any = getattr(split, "labels", getattr(source, "labels", None))
    again = getattr(split, "code_of_label", None)
    if labels is not None and again is not None:
        labels = again[labels]
    if scipy.sparse.issparse(labels) and getattr(split, "single_label", False):
        return labels.indices
    return labels
