"""Batches of sparse features: numbers and values of about equally many features a row."""

import numpy as np

from mhe_jax.data.ragged import pad_rows
from mhe_jax.data.texts.feed import TextFeed
from mhe_jax.data.texts.sparse.dataset import SparseSplit


class SparseFeed(TextFeed):
    """Feeds rows in batches of a few widths W, as `TextFeed` does documents.

    In the place of tokens and lengths a chunk has 'feature_ids' int32 and 'feature_values' float32 [count, b, W],
    padded with feature 0 of value 0, which adds nothing to a weighted sum.
    """

    _split: SparseSplit

    def _inputs(self, rows: np.ndarray, starts: np.ndarray, counts: np.ndarray, width: int) -> dict[str, np.ndarray]:
        return {
            "feature_ids": pad_rows(self._split.tokens, starts, counts, width, 0),
            "feature_values": pad_rows(self._split.values, starts, counts, width, 0),
        }
