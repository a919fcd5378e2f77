"""Cosine similarities of embeddings, block by block, so that no array of all pairs times their size is ever held.

An embedding of length 0 is similar to nothing: its similarities are 0.
"""

from collections.abc import Iterator

import numpy as np

_BLOCK_BYTES = 2**24
# Rows of the gallery that are searched at a time.
_GALLERY_BLOCK = 8192


def blocks(count: int, row_bytes: int) -> Iterator[slice]:
    """Consecutive slices of `count` rows, each of at most 16 MiB, or of one row."""
    size = max(1, _BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def lengths(embeddings: np.ndarray) -> np.ndarray:
    """L2 norms: [N, D] -> float64 [N].

    Raises:
      ValueError: if a number is not finite, which is what a model that diverged gives.
    """
    squares = np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(squares))
    if len(broken):
        raise ValueError(f"{len(broken)} of {len(embeddings)} embeddings are not finite, the first is {broken[0]}")
    return np.sqrt(squares)


def normalized(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings of length 1, or 0 as they were: [N, D] -> float32 [N, D]."""
    divisors = _divisors(embeddings)
    result = np.empty(embeddings.shape, np.float32)
    for rows in blocks(*_sizes(embeddings)):
        result[rows] = embeddings[rows] / divisors[rows, None]
    return result


def pair_similarities(embeddings: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosines of pairs: [N, D], two of int [P] -> float32 [P] in [-1, 1]. Raises ValueError as `lengths`."""
    divisors = _divisors(embeddings)
    result = np.empty(len(first), np.float32)
    for rows in blocks(len(first), 2 * embeddings[:1].nbytes):
        one, other = first[rows], second[rows]
        products = np.einsum("nd,nd->n", embeddings[one], embeddings[other], dtype=np.float64)
        result[rows] = np.clip(products / (divisors[one] * divisors[other]), -1, 1)
    return result


def pair_distances(embeddings: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared L2 distances of pairs after normalisation: [N, D], two of int [P] -> float64 [P] in [0, 4].

    2 - 2 cos, but computed from the differences as the published system does, since thresholds cut between them. An
    embedding of length 0 stays as it is, as there, at a distance of 1 from others. Raises ValueError as `lengths`.
    """
    divisors = _divisors(embeddings)
    result = np.empty(len(first))
    for rows in blocks(len(first), 6 * embeddings[:1].nbytes):
        one, other = first[rows], second[rows]
        difference = embeddings[one] / divisors[one, None] - embeddings[other] / divisors[other, None]
        result[rows] = np.einsum("nd,nd->n", difference, difference)
    return result


def search(probes: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` most similar of the gallery to each probe, best first; of equal ones those that come first.

    Args:
      probes: [P, D]. gallery: [G, D], less than 2^32. k: at most G.

    Returns:
      cosines float32 [P, k] and rows of the gallery int64 [P, k].

    Raises:
      ValueError: as `lengths`.
    """
    probes, gallery = normalized(probes), normalized(gallery)
    keys = np.empty((len(probes), k), np.int64)
    # Keys are made and sorted with about four copies.
    for rows in blocks(len(probes), 5 * 8 * _GALLERY_BLOCK):
        best = np.empty((rows.stop - rows.start, 0), np.int64)
        for start in range(0, len(gallery), _GALLERY_BLOCK):
            part = gallery[start : start + _GALLERY_BLOCK]
            best = np.concatenate([best, _keys(probes[rows] @ part.T, start)], axis=1)
            if best.shape[1] > k:
                best = np.partition(best, -k, axis=1)[:, -k:]
        keys[rows] = np.sort(best, axis=1)[:, ::-1]
    return _similarity_of(keys), _LAST - (keys & _LAST)


_LAST = 2**32 - 1


def _keys(similarities: np.ndarray, start: int) -> np.ndarray:
    """int64 keys that are all different: the larger one is more similar, or as similar and earlier in the gallery."""
    # The bits of a float order like an integer's, but backwards below zero. Adding 0 makes -0 equal to 0.
    bits = (similarities + np.float32(0)).view(np.int32)
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    return (ordered << 32) | (_LAST - np.arange(start, start + similarities.shape[1]))


def _similarity_of(keys: np.ndarray) -> np.ndarray:
    ordered = (keys >> 32).astype(np.int32)
    bits = np.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return np.clip(bits.view(np.float32), -1, 1)


def _divisors(embeddings: np.ndarray) -> np.ndarray:
    """What to divide by: float64 [N]."""
    found = lengths(embeddings)
    return np.where(found > 0, found, 1)


def _sizes(embeddings: np.ndarray) -> tuple[int, int]:
    """Rows, and the bytes of one in float64."""
    return len(embeddings), 8 * embeddings.shape[1]
