"""What a run's program takes: arrays by name, some of whose sizes are any."""

from typing import Any

import numpy as np

from mhe_jax.data.build import Data
from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.embedded import EmbeddedWords
from mhe_jax.data.texts.sparse.tokens_and_words import TokensAndWords

# What the dimensions of inputs and outputs are called, in the files too.
BATCH, LENGTH, WORDS = "batch", "length", "words"

Inputs = dict[str, tuple[tuple[int | str, ...], Any]]


def inputs_of(data: Data, texts: Data) -> tuple[Inputs, dict[str, int]]:
    """Shape and dtype of each input by its name, where a name stands for a size that is any; and the largest of these.

    Words that stand alone have `LENGTH`, beside tokens or features `WORDS`.

    Args:
      data: of the run.
      texts: what reads texts for it: `data` itself, or that of the encoder which makes its features.
    """
    if isinstance(data, ImageData):
        return {"image": ((BATCH, *data.image_shape), np.uint8)}, {}
    if isinstance(data, FeatureData):
        return {"features": ((BATCH, data.features_dim), np.float32)}, {}
    inputs: Inputs = {}
    longest: dict[str, int] = {}
    if isinstance(texts, TextData):
        inputs = {"input_ids": ((BATCH, LENGTH), np.int32), "length": ((BATCH,), np.int32)}
        longest = {LENGTH: texts.max_length}
    elif isinstance(data, EmbeddedWords):
        inputs = {"features": ((BATCH, data.embedding_dim), np.float32)}
    if isinstance(data, SparseData | TokensAndWords):
        size = WORDS if inputs else LENGTH
        inputs |= {"feature_ids": ((BATCH, size), np.int32), "feature_values": ((BATCH, size), np.float32)}
        longest[size] = data.max_row_features
    return inputs, longest
