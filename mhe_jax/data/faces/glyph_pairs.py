"""Verification pairs of drawn characters: other typefaces, random other characters, and look-alikes."""

from collections.abc import Callable

import numpy as np

from mhe_jax.data.dataset import DataError, Pairs
from mhe_jax.data.faces.pairing import alternate

_BLOCK = 512  # drawings that are compared with all others at a time


def glyph_pairs(
    images: np.ndarray, characters: np.ndarray, faces: np.ndarray, num_pairs: int, rng: np.random.Generator
) -> tuple[Pairs, Pairs]:
    """Two sets: 'glyphs', and 'glyphs_hard' whose different characters are nearest neighbours by pixels.

    The two drawings of a pair are always of two typefaces, so that the typeface tells nothing, and never equal. Two
    characters that some typefaces draw alike (c with cedilla, es with descender) are never a pair.

    Args:
      images: uint8 [N, ...], drawings.
      characters, faces: int [N], what is drawn and in which typeface.
      num_pairs: of each set, even; one half are pairs of one character.
      rng: draws the pairs.

    Raises:
      DataError: if there are too few drawings for so many distinct pairs.
    """
    pixels = images.reshape(len(images), -1).astype(np.float64)  # sums of products of bytes are exact in float64
    squares = np.sum(pixels**2, axis=1)
    _, looks = np.unique(pixels.astype(np.uint8), axis=0, return_inverse=True)
    same = _pairs_of_one(characters, looks)
    half = num_pairs // 2
    if half > len(same):
        raise DataError(_too_few(num_pairs, len(same), "one character", characters))
    alike = _drawn_alike(characters, looks)

    def allowed(rows: np.ndarray) -> np.ndarray:
        return ~alike[characters[rows][:, None], characters[None, :]] & (faces[rows][:, None] != faces[None, :])

    def different(score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        found = _best_partners(rng.permutation(len(images)), score, allowed, half)
        if len(found) < half:
            raise DataError(_too_few(num_pairs, len(found), "two characters", characters))
        return found

    by_chance = different(lambda rows: rng.random((len(rows), len(images))))
    look_alikes = different(lambda rows: 2.0 * pixels[rows] @ pixels.T - squares[None, :])
    easy, hard = (
        alternate(name, same[rng.choice(len(same), half, replace=False)], negatives)
        for name, negatives in (("glyphs", by_chance), ("glyphs_hard", look_alikes))
    )
    return easy, hard


def _pairs_of_one(characters: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """int [n, 2]: every two different drawings of one character."""
    order = np.argsort(characters, kind="stable")
    found = []
    for apart in range(1, np.bincount(characters).max()):
        first, second = order[:-apart], order[apart:]
        found.append(np.stack([first, second], axis=1)[characters[first] == characters[second]])
    pairs = np.concatenate([np.empty((0, 2), np.int64), *found])
    return pairs[looks[pairs[:, 0]] != looks[pairs[:, 1]]]


def _drawn_alike(characters: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """bool [C, C]: the characters that share a drawing; each shares its own."""
    drawn = np.zeros((looks.max() + 1, characters.max() + 1), np.float32)
    drawn[looks, characters] = 1.0
    return drawn.T @ drawn > 0


def _best_partners(order: np.ndarray, score: Callable, allowed: Callable, count: int) -> np.ndarray:
    """int [<= count, 2]: drawings in `order`, each with its allowed partner of the highest score, no pair twice."""
    found: dict[tuple[int, int], None] = {}
    for start in range(0, len(order), _BLOCK):
        rows = order[start : start + _BLOCK]
        scores = np.where(allowed(rows), score(rows), -np.inf)
        best = scores.argmax(axis=1)
        for row, partner in zip(rows.tolist(), best.tolist(), strict=True):
            if len(found) < count and (partner, row) not in found:
                found[row, partner] = None
        if len(found) == count:
            break
    return np.array(list(found), np.int64).reshape(-1, 2)


def _too_few(num_pairs: int, found: int, kind: str, characters: np.ndarray) -> str:
    return (
        f"config.data.num_pairs is {num_pairs}, but the {len(np.unique(characters))} held-out characters give only "
        f"{found} pairs of {kind}: lower it or raise config.data.held_out_classes"
    )
