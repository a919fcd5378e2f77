"""The baseline that a trained face network must beat: verification by the cosine of the pixels themselves."""

import jax.numpy as jnp
import numpy as np

from mhe_jax.data.dataset import ArraySplit, PairedSplit, Pairs, Split
from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.data.images.encoded import decode_all
from mhe_jax.evaluation.verification import evaluate_pairs

_BLOCK = 1024  # pictures that are normalised at a time


def pixel_figures(data: FaceData, verification: PairedSplit) -> dict[str, dict[str, float]]:
    """The figures of `evaluate_pairs` for each verification set, with pixels in place of embeddings.

    One set is held at a time, as float32: 12,000 RGB pictures of 112 x 112 take 1.7 GiB.

    Raises:
      decode.BadExample: for a picture that cannot be read.
      ValueError: if a set has less than ten pairs.
    """
    figures = {}
    for pairs in verification.pairs:
        used, places = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
        embeddings = pixel_embeddings(data, pictures(verification.images, used, pairs.name))
        first, second = places.reshape(2, -1)
        figures[pairs.name] = evaluate_pairs(embeddings, Pairs(pairs.name, first, second, pairs.same))
    return figures


def pixel_embeddings(data: FaceData, images: np.ndarray) -> np.ndarray:
    """Normalised pixels, and the mirrored picture's added where `data.flip_embeddings`: uint8 [N, ...] -> [N, D]."""
    embeddings = np.empty((len(images), images[0].size), np.float32)
    for start in range(0, len(images), _BLOCK):
        pixels = np.asarray(data.normalize(jnp.asarray(images[start : start + _BLOCK])))
        if data.flip_embeddings:
            pixels = pixels + pixels[:, :, ::-1]
        embeddings[start : start + _BLOCK] = pixels.reshape(len(pixels), -1)
    return embeddings


def pictures(split: Split, index: np.ndarray, title: str) -> np.ndarray:
    """uint8 [n, H, W, C]: the pictures of a split at `index`, decoded now if they stream."""
    if isinstance(split, ArraySplit):
        return split.images[index]
    return decode_all(lambda place, rng: split.load_example(int(index[place]), rng), len(index), title, "raise").images
