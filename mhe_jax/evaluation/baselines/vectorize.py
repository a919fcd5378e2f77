"""Texts as rows of weighted words: the TF-IDF on which the baselines on texts stand."""

from collections.abc import Iterable

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError


class Tfidf:
    """TF-IDF rows of unit length, scikit-learn's TfidfVectorizer: words of two letters or more, in lower case."""

    def __init__(self, *, sublinear_tf: bool = True, min_df: int = 1, max_features: int = 0):
        """Says what a word is worth.

        Args:
          sublinear_tf: a word that is n times in a text counts 1 + ln n there; otherwise n.
          min_df: words of fewer training texts are left out.
          max_features: most frequent words to use; 0 uses all.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import

        self._vectorizer = TfidfVectorizer(
            sublinear_tf=sublinear_tf, min_df=min_df, max_features=max_features or None, dtype=np.float32
        )

    def fit(self, texts: Iterable[str]) -> scipy.sparse.csr_matrix:
        """CSR float32 [N, D] of N training texts, which are not kept; their words are the D columns.

        Raises:
          DataError: if no text has a word that is left.
        """
        try:
            return scipy.sparse.csr_matrix(self._vectorizer.fit_transform(texts))
        except ValueError as error:
            raise DataError(f"the training texts cannot be compared: {error}") from error

    def transform(self, texts: Iterable[str]) -> scipy.sparse.csr_matrix:
        """CSR float32 [M, D] of M other texts; a text without a known word is an empty row."""
        return scipy.sparse.csr_matrix(self._vectorizer.transform(texts))
