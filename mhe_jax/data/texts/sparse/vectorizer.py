"""Words of texts as sparse features, weighted by how rare they are: scikit-learn's TF-IDF, kept in plain files.

TF-IDF with logarithmic counts and rows of length 1: Salton and Buckley, Information Processing & Management 1988.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError

FILE, WEIGHTS = "vectorizer.json", "idf.npy"


@dataclasses.dataclass(frozen=True)
class Words:
    """What of a text becomes a feature.

    analyzer: 'word', or 'char_wb' for pieces of words.
    ngrams: fewest and most words, or letters, of a feature.
    min_documents: training documents that have to hold a feature.
    max_vocabulary: features, the most frequent ones; 0: all.
    hashed: numbers that words are hashed to, by which no vocabulary is needed; 0: each has its own.
    sublinear: whether a word that is n times in a text counts 1 + ln n there, and not n.
    """

    analyzer: str = "word"
    ngrams: tuple[int, int] = (1, 1)
    min_documents: int = 1
    max_vocabulary: int = 0
    hashed: int = 0
    sublinear: bool = True


class Vectorizer:
    """Texts to rows of TF-IDF, once `fit`."""

    def __init__(self, words: Words):
        self._words = words
        self._counts, self._weights = _parts(words)

    def fit(self, texts: Iterable[str]) -> scipy.sparse.csr_matrix:
        """CSR float32 [N, V] of the training texts, after which others can be transformed.

        Raises:
          DataError: if no word is in enough texts.
        """
        try:
            counts = self._counts.fit_transform(texts)
        except ValueError as error:
            raise DataError(f"the training texts have no words to tell them apart: {error}") from error
        return self._weights.fit_transform(counts).tocsr()

    def transform(self, texts: Iterable[str]) -> scipy.sparse.csr_matrix:
        """CSR float32 [M, V]; a text without any known word is an empty row."""
        return self._weights.transform(self._counts.transform(texts)).tocsr()

    def save(self, folder: pathlib.Path) -> None:
        """Writes vectorizer.json, the settings and words in the order of their numbers, and idf.npy, their weights."""
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary = getattr(self._counts, "vocabulary_", {})
        words = sorted(vocabulary, key=vocabulary.__getitem__)
        content = {"settings": dataclasses.asdict(self._words), "words": words}
        (folder / FILE).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        np.save(folder / WEIGHTS, self._weights.idf_)

    @classmethod
    def load(cls, folder: pathlib.Path) -> "Vectorizer":
        """The vectorizer that `save` wrote; raises DataError if it is missing or damaged."""
        try:
            content = json.loads((folder / FILE).read_text(encoding="utf-8"))
            settings = content["settings"]
            found = cls(Words(**{**settings, "ngrams": tuple(settings["ngrams"])}))
            weights = np.load(folder / WEIGHTS, allow_pickle=False)
            known = content["words"]
            if weights.ndim != 1 or (known and len(weights) != len(known)) or weights.dtype.kind != "f":
                raise ValueError(
                    f"{WEIGHTS} holds {weights.dtype} {list(weights.shape)}, but there are {len(known)} words"
                )
            if known:
                found._counts.vocabulary_ = {word: number for number, word in enumerate(known)}
            found._weights.idf_ = weights
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise DataError(f"{folder} holds no vectorizer of texts: {error}") from error
        return found


def _parts(words: Words) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer  # slow to import

    shared = {"analyzer": words.analyzer, "ngram_range": words.ngrams, "dtype": np.float32}
    if words.hashed:
        counts: Any = HashingVectorizer(n_features=words.hashed, alternate_sign=False, norm=None, **shared)
    else:
        counts = CountVectorizer(min_df=words.min_documents, max_features=words.max_vocabulary or None, **shared)
    return counts, TfidfTransformer(sublinear_tf=words.sublinear)
