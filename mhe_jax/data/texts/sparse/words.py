"""Texts in any layout of the field as sparse features: the words that each document holds."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import require_at_least, require_one_of
from mhe_jax.data.texts.corpus import Corpus
from mhe_jax.data.texts.folder import XmcText
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.rows import Rows, RowSets, canonical_features
from mhe_jax.data.texts.sparse.vectorizer import Vectorizer, Words
from mhe_jax.settings import option

FOLDER = "vectorizer"


@dataclasses.dataclass(kw_only=True)
class WordData(SparseData):
    """Documents in any layout that `mhe_jax.data.texts.formats.layouts` tells of, by the TF-IDF of their words.

    Words and their weights are learnt from the documents to train on.

    path: the folder.
    text_column, label_column, label_separator: of CSV, TSV and Parquet, see `mhe_jax.data.texts.folder.XmcText`.
    analyzer: 'word', or 'char_wb' for pieces of words, as languages need that join words or bend them.
    ngrams: fewest and most words, or letters, of a feature.
    min_documents: training documents that have to hold a feature.
    max_vocabulary: features, the most frequent ones; 0: all.
    hashed: numbers that words are hashed to, by which no vocabulary is kept; 0: each has its own.
    vectorizer: a folder with words and weights that were learnt before, as a run has them; empty: those of the data.
    """

    text_column: str = ""
    label_column: str = ""
    label_separator: str = ""
    analyzer: str = "word"
    ngrams: tuple[int, int] = (1, 1)
    min_documents: int = 2
    max_vocabulary: int = 0
    hashed: int = 0
    vectorizer: str = option("", free=True)

    def __post_init__(self):
        super().__post_init__()
        require_one_of("analyzer", self.analyzer, ("word", "char_wb"))
        require_at_least("min_documents", self.min_documents, 1)
        for field in ("max_vocabulary", "hashed"):
            require_at_least(field, getattr(self, field), 0)
        if len(self.ngrams) != 2 or not 1 <= self.ngrams[0] <= self.ngrams[1]:
            raise ValueError(f"config.data.ngrams is {self.ngrams}; it must be two numbers from 1, the smaller first")
        if self.hashed and (self.max_vocabulary or self.min_documents > 1):
            raise ValueError(
                f"config.data.hashed is {self.hashed}, without a vocabulary to cut: set max_vocabulary = 0 and "
                "min_documents = 1"
            )

    def read(self) -> RowSets:
        texts = XmcText(
            path=self.path,
            valid_examples=self.valid_examples,
            max_train=self.max_train,
            max_eval=self.max_eval,
            propensity=self.propensity,
            text_column=self.text_column,
            label_column=self.label_column,
            label_separator=self.label_separator,
        )
        found, splits = texts.read(), texts.splits()
        train = splits.pop("train")
        matrix = self._fitted(train)
        rows = {}
        for name, corpus in splits.items():
            features = canonical_features(self._words.transform(corpus.texts()), corpus.source)
            rows[name] = Rows(features, corpus.labels, corpus.source, corpus.filtered)
        first = Rows(canonical_features(matrix, train.source), train.labels, train.source)
        return RowSets(
            first, found.label_names, found.layout, found.train.labels, test=rows.get("test"), valid=rows["eval"]
        )

    def inputs_of(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Texts as evaluation would see them, see `padded`."""
        return self.padded(canonical_features(self._words.transform(texts), "texts"))

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

    def _fitted(self, train: Corpus) -> scipy.sparse.csr_matrix:
        if self.vectorizer:
            return self._words.transform(train.texts())
        words = Words(self.analyzer, self.ngrams, self.min_documents, self.max_vocabulary, self.hashed)
        self._words = Vectorizer(words)
        return self._words.fit(train.texts())

    @functools.cached_property
    def _words(self) -> Vectorizer:
        return Vectorizer.load(pathlib.Path(self.vectorizer))
