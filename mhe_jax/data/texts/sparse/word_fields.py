"""The words of documents, wherever they stand: alone, or beside what an encoder makes of the same documents."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable

import scipy.sparse

from mhe_jax.data.dataset import DataError, require_at_least, require_one_of
from mhe_jax.data.texts.sparse.rows import canonical_features
from mhe_jax.data.texts.sparse.vectorizer import Vectorizer, Words
from mhe_jax.settings import option

FOLDER = "vectorizer"
_LEARNT_BY = ("analyzer", "ngrams", "min_documents", "max_vocabulary", "hashed")


@dataclasses.dataclass(kw_only=True)
class WordFields:
    """What data sets have in common of which a batch holds the TF-IDF of words, learnt from the documents to train on.

    features_dim: V, how many words there are; 0 takes the number that `load` finds, which a run keeps; otherwise
      `load` checks it.
    max_row_features: features of a row, those of the largest magnitude; the others of a longer one are left out.
    analyzer: 'word', or 'char_wb' for pieces of words, as languages need that join words or bend them.
    ngrams: fewest and most words, or letters, of a feature.
    min_documents: training documents that have to hold a feature.
    max_vocabulary: features, the most frequent ones; 0: all.
    hashed: numbers that words are hashed to, by which no vocabulary is kept; 0: each has its own.
    vectorizer: a folder with words and weights that were learnt before, as a run has them, by the five settings above
      that it keeps; empty: those of the data.
    """

    features_dim: int = 0
    max_row_features: int = 512
    analyzer: str = "word"
    ngrams: tuple[int, int] = (1, 1)
    min_documents: int = 2
    max_vocabulary: int = 0
    hashed: int = 0
    vectorizer: str = option("", free=True)

    def require_words(self, folder: pathlib.Path) -> None:
        """Raises ValueError unless words are numbered as in `folder`, if it has any: rows of a table are by number."""
        if folder.is_dir() and not self._words.has_columns_of(Vectorizer.load(folder)):
            raise ValueError(
                f"config.init_from: {folder.parent} has numbered other words than this data, so that each would start "
                f"from the weights of another one: --config.data.vectorizer={folder} reads texts by its words"
            )

    def save_vectorizer(self, folder: pathlib.Path) -> None:
        """Writes words and weights so that `vectorizer` may name the folder."""
        self._words.save(folder)

    def _check_words(self) -> None:
        """Raises ValueError for fields that are impossible."""
        require_one_of("analyzer", self.analyzer, ("word", "char_wb"))
        require_at_least("features_dim", self.features_dim, 0)
        for field in ("min_documents", "max_row_features"):
            require_at_least(field, getattr(self, field), 1)
        for field in ("max_vocabulary", "hashed"):
            require_at_least(field, getattr(self, field), 0)
        if len(self.ngrams) != 2 or not 1 <= self.ngrams[0] <= self.ngrams[1]:
            raise ValueError(f"config.data.ngrams is {self.ngrams}; it must be two numbers from 1, the smaller first")
        if self.hashed and (self.max_vocabulary or self.min_documents > 1):
            raise ValueError(
                f"config.data.hashed is {self.hashed}, without a vocabulary to cut: set max_vocabulary = 0 and "
                "min_documents = 1"
            )

    def _accept_words(self, found: int, where: str) -> None:
        """Checks features_dim against the number of words that was found, or takes it over if it is 0."""
        if self.features_dim not in (0, found):
            raise DataError(f"config.data.features_dim is {self.features_dim}, but {where} has {found}")
        self.features_dim = found

    def _fitted(self, texts: Iterable[str], source: str) -> scipy.sparse.csr_matrix:
        """The words of the documents to train on, CSR float32 [N, V], after which `_words_of` knows the others'."""
        if self.vectorizer:
            self._require_words_of_folder()
            return self._words_of(texts, source)
        words = Words(self.analyzer, self.ngrams, self.min_documents, self.max_vocabulary, self.hashed)
        self._words = Vectorizer(words)
        return canonical_features(self._words.fit(texts), source)

    def _require_words_of_folder(self) -> None:
        """Raises DataError if a field asks for other words than those of `vectorizer`; what is the default asks not."""
        usual = {field.name: field.default for field in dataclasses.fields(WordFields)}
        for name in _LEARNT_BY:
            asked, has = getattr(self, name), getattr(self._words.settings, name)
            if asked not in (usual[name], has):
                raise DataError(
                    f"config.data.{name} is {asked!r}, but {self.vectorizer} has words by {has!r}: set it to that, or "
                    "config.data.vectorizer to '' to learn others"
                )

    def _words_of(self, texts: Iterable[str], source: str) -> scipy.sparse.csr_matrix:
        """CSR float32 [N, V]."""
        return canonical_features(self._words.transform(texts), source)

    @functools.cached_property
    def _words(self) -> Vectorizer:
        return Vectorizer.load(pathlib.Path(self.vectorizer))
