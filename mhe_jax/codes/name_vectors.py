"""Vectors of classes from their names alone: means of what a text encoder makes of the names' tokens."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from mhe_jax.codes.vectors import ClassMeans
from mhe_jax.data.texts.tokenizer import TextTokenizer, load_tokenizer
from mhe_jax.interop import huggingface
from mhe_jax.models import build_backbone

_FIELD = "config.codes.path"
# Tokens of a name that count, and names that are encoded at a time.
_LONGEST, _BATCH = 64, 256
# Names of nearly the same length share a program.
_STEP = 8


def name_vectors(names: Sequence[str], folder: pathlib.Path) -> Float[np.ndarray, "names d"]:
    """The directions of names: float32 [N, D], of length 1.

    Sentence encoders such as MiniLM are trained for the mean of their tokens' last states to say what a text means,
    and that is what is taken. An underscore in a name stands for a space.

    Args:
      names: of the classes, by id.
      folder: of Hugging Face's form: config.json, tokenizer, weights.

    Raises:
      ValueError: if the folder holds no encoder that this package can read, or the tokenizer of another one.
    """
    huggingface.check_folder(folder, _FIELD)
    checkpoint = {"name": "pretrained", "checkpoint": str(folder), "pooling": "mean"}
    section = huggingface.encoder_section(ConfigDict(checkpoint))
    longest = min(_LONGEST, section.get("max_positions", _LONGEST))
    tokenizer = TextTokenizer(load_tokenizer(str(folder)), longest, "raw")
    huggingface.check_vocabulary(
        tokenizer.vocab_size, section.vocab_size, f"{_FIELD}: vocab_size in {folder}/config.json"
    )
    tokens, counts, _ = tokenizer([name.replace("_", " ") for name in names])
    return _encoded(tokens, counts, build_backbone(section, jnp.float32), str(folder))


def _encoded(tokens: np.ndarray, counts: np.ndarray, encoder: Any, checkpoint: str) -> np.ndarray:
    """The directions of texts given end to end, of `counts` tokens each."""
    abstract = jax.eval_shape(
        lambda: encoder.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32), jnp.ones(1, jnp.int32), train=False)
    )
    params = jax.device_put(huggingface.load_encoder(checkpoint, abstract["params"]))
    run = jax.jit(lambda params, ids, length: encoder.apply({"params": params}, ids, length, train=False))
    means = ClassMeans(len(counts), encoder.features_dim)
    starts, order = np.cumsum(counts) - counts, np.argsort(counts, kind="stable")
    for first in range(0, len(order), _BATCH):
        rows = order[first : first + _BATCH]
        # The last batch is filled up with its last name: all have one shape but for their length.
        filled = np.pad(rows, (0, _BATCH - len(rows)), mode="edge")
        places = np.arange(-(-counts[rows].max() // _STEP) * _STEP)
        inside = places < counts[filled][:, None]
        ids = np.where(inside, tokens[np.where(inside, starts[filled][:, None] + places, 0)], 0)
        found = run(params, ids.astype(np.int32), counts[filled].astype(np.int32))
        means.add(np.asarray(found)[: len(rows)], rows)
    return means.vectors
