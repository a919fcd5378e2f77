"""What is worth knowing of a text data set before any training: its sizes, and how far the most frequent labels get."""

from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.texts.tokens import Tokens

_KS = (1, 3, 5)
_BLOCK = 65536  # documents whose frequent labels are dense at a time


def split_facts(labels: scipy.sparse.csr_matrix, tokens: Tokens) -> dict[str, Any]:
    """Documents of a split, their labels and tokens, in numbers."""
    documents, width = labels.shape[0], np.diff(labels.indptr)
    return {
        "documents": documents,
        "labels_per_document": {"mean": round(float(width.mean()), 3), "max": int(width.max())},
        "documents_without_labels": int((width == 0).sum()),
        "labels_seen": len(np.unique(labels.indices)),
        "tokens_per_document": round(len(tokens.tokens) / documents, 1),
        "truncated_documents": round(tokens.truncated / documents, 4),
    }


def popularity(
    train: scipy.sparse.csr_matrix, labels: scipy.sparse.csr_matrix, filtered: scipy.sparse.csr_matrix
) -> dict[str, float]:
    """P@1, P@3 and P@5 of the ranking of all labels by their frequency in training, the lower number first of equals.

    Documents without labels are not counted.

    Args:
      train: CSR [M, L], which decides the frequency.
      labels: CSR [N, L] of the documents to evaluate, of which some has a label.
      filtered: CSR [N, L], labels left out of a document's ranking; it may be empty.
    """
    documents, num_labels = labels.shape
    spare = int(np.diff(filtered.indptr).max(initial=0))
    counts = np.bincount(train.indices, minlength=num_labels)
    frequent = np.argsort(-counts, kind="stable")[: max(_KS) + spare]
    hits = np.zeros(max(_KS))
    for start in range(0, documents, _BLOCK):
        block = slice(start, start + _BLOCK)
        true = labels[block][:, frequent].toarray() != 0
        kept = filtered[block][:, frequent].toarray() == 0
        rank = np.cumsum(kept, axis=1) - 1
        hits += np.bincount(rank[true & kept], minlength=len(hits))[: len(hits)]
    counted = int((np.diff(labels.indptr) > 0).sum())
    return {f"P@{k}": round(float(hits[:k].sum() / (counted * k)), 5) for k in _KS}
