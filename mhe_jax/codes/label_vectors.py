"""Vectors of labels from the documents that have them, before any training: sums of TF-IDF vectors, reduced."""

import numpy as np
import scipy.sparse

from mhe_jax.codes.vectors import ClassMeans
from mhe_jax.data.texts.dataset import TextSplit

_DIMS = 96
_BLOCK = 65536  # documents whose reduced vectors are added up at a time


def label_vectors(split: TextSplit, dims: int = _DIMS, seed: int = 0) -> ClassMeans:
    """The directions of the labels' mean documents, by the tokens that the encoder will see.

    A token weighs 1 + log of how often it is in a document, times the log of how rare documents with it are; documents
    have length 1, and are reduced by a truncated SVD. Relevances do not count.

    Args:
      split: of training, with ids as labels.
      dims: length of the vectors; fewer where there are fewer documents or tokens.
      seed: of the SVD.

    Raises:
      ValueError: if all documents have the same tokens, by which nothing can be told apart.
    """
    reduced = _reduced(_tf_idf(split), dims, seed)
    means = ClassMeans(split.labels.shape[1], reduced.shape[1])
    of_entry = np.repeat(np.arange(split.num_examples), np.diff(split.labels.indptr))
    for start in range(0, len(of_entry), _BLOCK):
        block = slice(start, start + _BLOCK)
        means.add(reduced[of_entry[block]], split.labels.indices[block])
    return means


def _tf_idf(split: TextSplit) -> scipy.sparse.csr_matrix:
    """CSR float32 [N, V], rows of length 1."""
    tokens = np.asarray(split.tokens)
    size = int(tokens.max(initial=0)) + 1
    shape, ones = (split.num_examples, size), np.ones(len(tokens), np.float32)
    # A copy: adding up what stands twice in a row moves the tokens, which are the run's.
    matrix = scipy.sparse.csr_matrix((ones, tokens, split.offsets), shape, copy=True)
    matrix.sum_duplicates()
    rarity = np.log(split.num_examples / np.maximum(np.bincount(matrix.indices, minlength=size), 1)).astype(np.float32)
    matrix.data = (1 + np.log(matrix.data)) * rarity[matrix.indices]
    if not matrix.data.any():
        raise ValueError("codes.name = 'labels' tells labels apart by their documents, but these have the same tokens")
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    matrix.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(matrix.indptr)).astype(np.float32)
    return matrix


def _reduced(matrix: scipy.sparse.csr_matrix, dims: int, seed: int) -> np.ndarray:
    """float32 [N, d]."""
    from sklearn.decomposition import TruncatedSVD  # slow to import

    dims = min(dims, *(size - 1 for size in matrix.shape))
    if dims < 1:
        return matrix.toarray()
    return TruncatedSVD(dims, random_state=seed).fit_transform(matrix).astype(np.float32)
