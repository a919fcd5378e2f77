"""What a collection of labelled documents is, wherever it comes from."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The documents of one split.

    texts: starts a fresh pass over all texts, in order; they are read from disk as they are asked for.
    labels: CSR float32 [N, L]; the values are the labels' relevance, 1 where none was given, and never 0. Columns are
      sorted within a row and none is repeated. A document may have no labels, and its text may be empty.
    source: file names, for messages.
    filtered: CSR bool [N, L], labels that evaluation drops from a document's ranking; mostly none.
    fingerprint: differs where the texts differ.
    listed: int32 [nnz], the same labels row by row in the order in which the files list them; None where that is the
      order of `labels`, or no order is known.
    """

    texts: Callable[[], Iterator[str]]
    labels: scipy.sparse.csr_matrix
    source: str
    filtered: scipy.sparse.csr_matrix
    fingerprint: str
    listed: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Corpora:
    """A data set of documents.

    test: documents to measure the best checkpoint on, or to rank labels for, if there are such.
    label_names: one for each of the L columns of all splits.
    layout: one line that says what was found where.
    valid: documents that were set apart to choose the best checkpoint, if there are such.
    """

    train: Corpus
    test: Corpus | None
    label_names: tuple[str, ...]
    layout: str
    valid: Corpus | None = None
