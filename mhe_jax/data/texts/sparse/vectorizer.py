"""Words of texts as sparse features, weighted by how rare they are: scikit-learn's TF-IDF, kept in plain files.

TF-IDF with logarithmic counts and rows of length 1: Salton and Buckley, Information Processing & Management 1988.
"""

import array
import collections
import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.surrogates import whole

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
    """Texts to rows of TF-IDF, once `fit`.

    scikit-learn learns words and weights. Texts are read here by the same rules, as importing it takes longer than all
    else that a prediction does; only numbers that words are hashed to are made by it.
    """

    def __init__(self, words: Words):
        self._words = words
        self._numbers: dict[str, int] = {}  # of the words; none where they are hashed
        self._idf = np.zeros(0)

    @property
    def settings(self) -> Words:
        """What of a text becomes a feature."""
        return self._words

    def fit(self, texts: Iterable[str]) -> scipy.sparse.csr_matrix:
        """CSR float32 [N, V] of the training texts, after which others can be transformed.

        Raises:
          DataError: if no word is in enough texts.
        """
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer  # slow to import

        words = self._words
        try:
            if words.hashed:
                counts = self._counts(texts)
            else:
                counter = CountVectorizer(
                    min_df=words.min_documents, max_features=words.max_vocabulary or None, **_rules(words)
                )
                counts = counter.fit_transform(map(whole, texts))
                self._numbers = counter.vocabulary_
        except ValueError as error:
            raise DataError(f"the training texts have no words to tell them apart: {error}") from error
        weights = TfidfTransformer(sublinear_tf=words.sublinear)
        matrix = weights.fit_transform(counts).tocsr()
        self._idf = weights.idf_
        return matrix

    def transform(self, texts: Iterable[str]) -> scipy.sparse.csr_matrix:
        """CSR float32 [M, V]; a text without any known word is an empty row."""
        matrix = self._counts(texts)
        if self._words.sublinear:
            matrix.data = 1 + np.log(matrix.data)
        matrix.data *= self._idf[matrix.indices]
        row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        lengths = np.sqrt(np.bincount(row, matrix.data * matrix.data, matrix.shape[0]))
        matrix.data = (matrix.data / lengths[row]).astype(np.float32)
        return matrix

    def _counts(self, texts: Iterable[str]) -> scipy.sparse.csr_matrix:
        """How often each text has each word, CSR float32 [M, V]."""
        if self._words.hashed:
            from sklearn.feature_extraction.text import HashingVectorizer  # slow to import

            hashing = HashingVectorizer(
                n_features=self._words.hashed, alternate_sign=False, norm=None, **_rules(self._words)
            )
            return hashing.transform(map(whole, texts)).tocsr()
        numbers, counts, ends = array.array("i"), array.array("f"), array.array("q", [0])
        for text in texts:
            known = (self._numbers.get(piece, -1) for piece in pieces(whole(text), self._words))
            row = collections.Counter(number for number in known if number >= 0)
            numbers.extend(row)
            counts.extend(row.values())
            ends.append(len(numbers))
        parts = np.array(counts, np.float32), np.array(numbers, np.int32), np.array(ends, np.int64)
        matrix = scipy.sparse.csr_matrix(parts, (len(ends) - 1, len(self._numbers)))
        matrix.sort_indices()
        return matrix

    def has_columns_of(self, other: "Vectorizer") -> bool:
        """Whether both give a word the same number; weights may differ."""
        rules = [(words.analyzer, words.ngrams, words.hashed) for words in (self._words, other._words)]
        return rules[0] == rules[1] and self._numbers == other._numbers

    def save(self, folder: pathlib.Path) -> None:
        """Writes vectorizer.json, the settings and words in the order of their numbers, and idf.npy, their weights."""
        folder.mkdir(parents=True, exist_ok=True)
        words = sorted(self._numbers, key=self._numbers.__getitem__)
        content = {"settings": dataclasses.asdict(self._words), "words": words}
        (folder / FILE).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        np.save(folder / WEIGHTS, self._idf)

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
            found._numbers = {word: number for number, word in enumerate(known)}
            found._idf = weights
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise DataError(f"{folder} holds no vectorizer of texts: {error}") from error
        return found


def pieces(text: str, words: Words) -> list[str]:
    """What of a text becomes a feature, repeated as it is: as scikit-learn's CountVectorizer finds it.

    Words are of two letters, digits or underscores at least, in lower case; n-grams of them are joined by a space.
    Pieces of words are taken of each with a space at both ends, and a word that is shorter than a piece is one.
    """
    text, (fewest, most) = text.lower(), words.ngrams
    if words.analyzer == "word":
        found = _WORD.findall(text)
        if most == 1:
            return found
        starts = ((n, i) for n in range(fewest, most + 1) for i in range(len(found) - n + 1))
        return [" ".join(found[i : i + n]) for n, i in starts]
    cut = []
    for word in text.split():
        padded = f" {word} "
        longest = max(min(most, len(padded)), fewest)
        cut += [padded[i : i + n] for n in range(fewest, longest + 1) for i in range(max(len(padded) - n, 0) + 1)]
    return cut


_WORD = re.compile(r"\b\w\w+\b")


def _rules(words: Words) -> dict[str, Any]:
    """What scikit-learn's vectorizers share."""
    return {"analyzer": words.analyzer, "ngram_range": words.ngrams, "dtype": np.float32}
