"""Documents as tokens and as words, side by side in a batch."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import scipy.sparse

from mhe_jax.data.texts import buckets
from mhe_jax.data.texts.dataset import Texts, TextSplit
from mhe_jax.data.texts.folder import XmcText
from mhe_jax.data.texts.sparse.rows import padded
from mhe_jax.data.texts.sparse.word_fields import WordFields


@dataclasses.dataclass(frozen=True)
class TokensAndWordsSplit(TextSplit):
    """Tokens of one split, and `words`, CSR float32 [N, V], of the same documents, padded to `word_width` W."""

    words: scipy.sparse.csr_matrix = dataclasses.field(kw_only=True)
    word_width: int = dataclasses.field(kw_only=True)

    def inputs(self, documents: np.ndarray, width: int) -> dict[str, np.ndarray]:
        return {**super().inputs(documents, width), **padded(self.words[documents], (self.word_width,))}


@dataclasses.dataclass(kw_only=True)
class TokensAndWords(WordFields, XmcText):
    """The documents of `xmc`, of which a batch holds the tokens and the TF-IDF of the words.

    Batches are of about one number of tokens. Beside an encoder words cost next to nothing, so that all batches of a
    split have room for those of its longest row.
    """

    def __post_init__(self):
        super().__post_init__()
        self._check_words()

    @property
    def example(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            **super().example,
            "feature_ids": jax.ShapeDtypeStruct((1, 4), np.int32),
            "feature_values": jax.ShapeDtypeStruct((1, 4), np.float32),
        }

    def load(self) -> Texts:
        found = super().load()
        splits: dict[str, Any] = {}
        for name, corpus in self.splits().items():  # 'train' is the first
            words = (self._fitted if name == "train" else self._words_of)(corpus.texts(), corpus.source)
            split = getattr(found, name)
            own = {field.name: getattr(split, field.name) for field in dataclasses.fields(split)}
            longest = np.diff(words.indptr).max(initial=1)
            width = buckets.fit(self._widths, np.minimum(longest, self.max_row_features))
            splits[name] = TokensAndWordsSplit(**own, words=words, word_width=int(width))
            self._accept_words(words.shape[1], corpus.source)
        return dataclasses.replace(found, **splits, facts={**found.facts, "features": self.features_dim})

    def inputs_of(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Tokens, see `encode`, and words, see `rows.padded`, of texts as evaluation would see them."""
        return {**super().inputs_of(texts), **padded(self._words_of(texts, "texts"), self._widths)}

    def abstract_batch(
        self, batch_size: int, length: int = 0, evaluates: bool = False
    ) -> dict[str, jax.ShapeDtypeStruct]:
        words = (batch_size, self.max_row_features)
        return {
            **super().abstract_batch(batch_size, length, evaluates),
            "feature_ids": jax.ShapeDtypeStruct(words, np.int32),
            "feature_values": jax.ShapeDtypeStruct(words, np.float32),
        }

    @property
    def _widths(self) -> tuple[int, ...]:
        """Numbers of words that rows are padded to, ascending."""
        return buckets.bucket_lengths((), self.max_row_features)
