"""The true labels of a data set's splits, and what else rankings are measured with; texts need no tokenizer for it."""

from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from mhe_jax.codes.relabel import columns
from mhe_jax.data.build import Data
from mhe_jax.data.known_labels import ignored_labels, known_labels
from mhe_jax.data.texts.documents import CorpusText
from mhe_jax.labels import LabelCodes


class Truth(NamedTuple):
    """Of the N documents or rows of one split.

    labels: CSR [N, L]; a value that is not 0 is a label.
    filtered: CSR [N, L], labels that are neither ranked nor wanted, if there are any.
    inverse_propensity: float32 [L], if the split is evaluated with it.
    """

    labels: scipy.sparse.csr_matrix
    filtered: scipy.sparse.csr_matrix | None = None
    inverse_propensity: np.ndarray | None = None


def true_splits(data: Data, loaded: Any = None) -> tuple[dict[str, Truth], Sequence[str]]:
    """The truth of 'train', 'eval' and, where those are others, 'test'; and the names of the labels, perhaps none.

    Args:
      data: texts, features, or pictures with labels that are known without reading them.
      loaded: what `data.load()` gave, where that was done already.

    Raises:
      DataError: if the data is missing or differs from the config.
    """
    if isinstance(data, CorpusText):
        corpora, inverse, names = data.splits(), data.inverse_propensity(), data.corpora().label_names
        data.accept_classes(len(names), corpora["train"].source)
        return {
            name: Truth(corpus.labels, corpus.filtered if corpus.filtered.nnz else None, inverse)
            for name, corpus in corpora.items()
        }, names
    loaded = loaded or data.load()
    return {
        name: Truth(_matrix(_labels(split), data.num_classes), _filtered(split), _inverse(split))
        for name, split in present(loaded).items()
    }, loaded.class_names


def of_classes(truth: Truth, numbering: LabelCodes) -> Truth:
    """The truth by the ids of a run's classes, which `numbering` gives the data's; labels without one are left out."""
    inverse = truth.inverse_propensity
    return Truth(
        columns(truth.labels, numbering),
        None if truth.filtered is None else columns(truth.filtered, numbering),
        None if inverse is None else numbering.in_code_order(inverse),
    )


def present(loaded: Any) -> Mapping[str, Any]:
    """The splits of a loaded data set by name: 'train', 'eval', and 'test' if there is one."""
    named = {"train": loaded.train, "eval": loaded.eval, "test": loaded.test}
    return {name: split for name, split in named.items() if split is not None}


def chosen(splits: Container[str], which: str | None) -> tuple[str, bool]:
    """The name of the split that --split means, and whether it is held out beside the test documents.

    Args:
      splits: the names that the data has.
      which: 'val', the documents that choose the best checkpoint, or 'test'; None is 'test' where there is one.

    Raises:
      ValueError: for 'test', if the data has no test documents beside those.
    """
    if which == "test" and "test" not in splits:
        raise ValueError(
            "--split=test: this data has no test documents beside those that choose the best checkpoint, which are "
            "--split=val and the default"
        )
    name = "test" if which != "val" and "test" in splits else "eval"
    return name, name == "eval" and "test" in splits


def _matrix(labels: Any, num_classes: int) -> scipy.sparse.csr_matrix:
    """CSR [N, L] of CSR labels, or of one label a row, int [N]."""
    if scipy.sparse.issparse(labels):
        return labels
    return scipy.sparse.csr_matrix(
        (np.ones(len(labels), np.float32), labels, np.arange(len(labels) + 1)), (len(labels), num_classes)
    )


def _labels(split: Any) -> Any:
    return split.labels if getattr(split, "many", None) is None else known_labels(split)


def _filtered(split: Any) -> scipy.sparse.csr_matrix | None:
    return getattr(split, "filtered", None) if getattr(split, "many", None) is None else ignored_labels(split)


def _inverse(split: Any) -> np.ndarray | None:
    many = getattr(split, "many", None)
    return getattr(split if many is None else many, "inverse_propensity", None)
