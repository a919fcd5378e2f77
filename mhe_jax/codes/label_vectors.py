"""Vectors of labels from the documents that have them, before any training: sums of TF-IDF vectors, or of features."""

from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.codes.vectors import ClassMeans
from mhe_jax.data.features.dataset import FeatureSplit
from mhe_jax.data.ragged import columns_of
from mhe_jax.data.texts.dataset import TextSplit
from mhe_jax.data.texts.sparse.dataset import SparseSplit

_DIMS = 96
_BLOCK = 65536  # documents whose reduced vectors are added up at a time
_BLOCK_BYTES = 16 << 20  # of features that are added up at a time


def label_vectors(split: TextSplit, dims: int = _DIMS, seed: int = 0) -> ClassMeans:
    """The directions of the labels' mean documents, by the tokens that the encoder will see, or by sparse features.

    Documents are weighted as those of the baseline (`mhe_jax.evaluation.baselines`), by scikit-learn, and reduced by a
    truncated SVD. Relevances do not count.

    Args:
      split: of training, with ids as labels.
      dims: length of the vectors; fewer where there are fewer documents or tokens.
      seed: of the SVD.

    Raises:
      ValueError: if all documents have the same tokens, by which nothing can be told apart.
    """
    weighted = split.matrix if isinstance(split, SparseSplit) else _tf_idf(split)
    reduced = _reduced(weighted, dims, seed)
    means = ClassMeans(split.labels.shape[1], reduced.shape[1])
    of_entry = np.repeat(np.arange(split.num_examples), np.diff(split.labels.indptr))
    for start in range(0, len(of_entry), _BLOCK):
        block = slice(start, start + _BLOCK)
        means.add(reduced[of_entry[block]], split.labels.indices[block])
    return means


def label_features(split: FeatureSplit) -> ClassMeans:
    """The directions of the sums of the features of each label's rows; relevances do not count.

    Args:
      split: of training, with many labels a row, ids as labels.
    """
    labels: Any = split.labels
    means = ClassMeans(labels.shape[1], split.features.shape[1])
    rows = max(_BLOCK_BYTES // split.features[0].nbytes, 1)
    for start in range(0, split.num_examples, rows):
        index = np.arange(start, min(start + rows, split.num_examples))
        width = int(np.diff(labels.indptr[start : index[-1] + 2]).max(initial=1))
        means.add(split.features[index].astype(np.float32), columns_of(labels, index, width))
    return means


def _tf_idf(split: TextSplit) -> scipy.sparse.csr_matrix:
    """CSR float32 [N, V], rows of length 1."""
    from sklearn.feature_extraction.text import TfidfTransformer  # slow to import

    tokens = np.asarray(split.tokens)
    shape, ones = (split.num_examples, int(tokens.max(initial=0)) + 1), np.ones(len(tokens), np.float32)
    # A copy: adding up what stands twice in a row moves the tokens, which are the run's.
    counts = scipy.sparse.csr_matrix((ones, tokens, split.offsets), shape, copy=True)
    counts.sum_duplicates()
    if np.isin(counts.getnnz(axis=0), (0, split.num_examples)).all():
        raise ValueError("codes.name = 'labels' tells labels apart by their documents, but these have the same tokens")
    return TfidfTransformer(sublinear_tf=True).fit(counts).transform(counts, copy=False)


def _reduced(matrix: scipy.sparse.csr_matrix, dims: int, seed: int) -> np.ndarray:
    """float32 [N, d]."""
    from sklearn.decomposition import TruncatedSVD  # slow to import

    dims = min(dims, *(size - 1 for size in matrix.shape))
    if dims < 1:
        return matrix.toarray()
    return TruncatedSVD(dims, random_state=seed).fit_transform(matrix).astype(np.float32)
