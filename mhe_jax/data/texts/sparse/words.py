"""Texts in any layout of the field as sparse features: the words that each document holds."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mhe_jax.data.texts.folder import XmcText
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.rows import Rows, RowSets
from mhe_jax.data.texts.sparse.word_fields import WordFields


@dataclasses.dataclass(kw_only=True)
class WordData(WordFields, SparseData):
    """Documents in any layout that `mhe_jax.data.texts.formats.layouts` tells of, by the TF-IDF of their words.

    path: the folder.
    text_column, label_column, label_separator: of CSV, TSV and Parquet, see `mhe_jax.data.texts.folder.XmcText`.
    """

    text_column: str = ""
    label_column: str = ""
    label_separator: str = ""

    def __post_init__(self):
        super().__post_init__()
        self._check_words()

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
        rows = {}
        for name, corpus in splits.items():  # 'train' is the first
            make = self._fitted if name == "train" else self._words_of
            features = make(corpus.texts(), corpus.source)
            rows[name] = Rows(features, corpus.labels, corpus.source, corpus.filtered, corpus.listed)
        return RowSets(
            dataclasses.replace(rows["train"], filtered=None),
            found.label_names,
            found.layout,
            found.train.labels,
            test=rows.get("test"),
            valid=rows["eval"],
        )

    def inputs_of(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Texts as evaluation would see them, see `padded`."""
        return self.padded(self._words_of(texts, "texts"))
