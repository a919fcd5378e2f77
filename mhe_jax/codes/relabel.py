"""Exchanges the ids of a loaded data set for codes: the one place where labels enter training and its metrics."""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import ArraySplit, PairedSplit, StreamSplit
from mhe_jax.data.features.dataset import Features, FeatureSplit
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.many_labels import ManyLabels
from mhe_jax.data.texts.dataset import Texts, TextSplit
from mhe_jax.labels import LabelCodes


def relabelled(data: Images | Texts | Features, codes: LabelCodes) -> Any:
    """A loaded data set whose labels are codes, in all that a batch holds: labels, filtered ones, propensities.

    Metrics do not change, as all that is about a class moves together. Names and facts stay: they are of ids. So do the
    pairs of faces, which have no classes. The identity gives back `data` itself.
    """
    if codes.is_identity:
        return data
    splits = {name: _split(getattr(data, name), codes) for name in ("train", "eval", "test")}
    return dataclasses.replace(data, **splits)


def _split(split: Any, codes: LabelCodes) -> Any:
    if split is None or isinstance(split, PairedSplit):
        return split
    if isinstance(split, ArraySplit | StreamSplit) and split.many is not None:
        return dataclasses.replace(split, many=_many(split.many, codes))
    if isinstance(split, ArraySplit) or (isinstance(split, FeatureSplit) and isinstance(split.labels, np.ndarray)):
        return dataclasses.replace(split, labels=codes.codes(split.labels))
    if isinstance(split, StreamSplit):
        before = np.arange(codes.num_classes, dtype=np.int32) if split.code_of_label is None else split.code_of_label
        return dataclasses.replace(split, code_of_label=codes.codes(before))
    assert isinstance(split, TextSplit | FeatureSplit)
    filtered, propensity = split.filtered, split.inverse_propensity
    split = dataclasses.replace(
        split,
        labels=columns(split.labels, codes),
        filtered=None if filtered is None else columns(filtered, codes),
        inverse_propensity=None if propensity is None else codes.in_code_order(propensity),
    )
    if isinstance(split, TextSplit) and split.listed is not None:
        listed = codes.codes(split.listed)
        split = dataclasses.replace(split, listed=listed[listed >= 0])
    return split


def _many(many: ManyLabels, codes: LabelCodes) -> ManyLabels:
    ignored, propensity = many.ignored, many.inverse_propensity
    return ManyLabels(
        columns(many.labels, codes),
        None if ignored is None else columns(ignored, codes),
        None if propensity is None else codes.in_code_order(propensity),
    )


def columns(matrix: scipy.sparse.csr_matrix, codes: LabelCodes) -> scipy.sparse.csr_matrix:
    """CSR [N, codes] with other columns; the entries of a row stay in their order, which batches show.

    Labels of classes without a code are left out.
    """
    columns, shape = codes.codes(matrix.indices), (matrix.shape[0], codes.num_codes)
    kept = columns >= 0
    if kept.all():
        return scipy.sparse.csr_matrix((matrix.data, columns, matrix.indptr), shape)
    ends = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return scipy.sparse.csr_matrix((matrix.data[kept], columns[kept], ends), shape)
