"""The baseline that a trained network must beat: the label of the nearest training image, by pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.data.dataset import ArraySplit


def nearest_neighbor_top1(
    train: ArraySplit, evaluate: ArraySplit, *, metric: str = "euclidean", block_size: int = 1024
) -> float:
    """Share of evaluation images whose nearest training image has the same label.

    Args:
      train: uint8 images [N, ...].
      evaluate: uint8 images [M, ...] of the same shape.
      metric: 'euclidean' on pixels in [0, 1], or 'cosine' on l2-normalised ones.
      block_size: images per side of one matrix product; memory is block_size^2 + the training pixels as bytes.

    Raises:
      ValueError: for another metric.
    """
    nearest = nearest_neighbors(train.images, evaluate.images, metric=metric, block_size=block_size)
    return float(np.mean(train.labels[nearest] == evaluate.labels))


def nearest_neighbors(
    train: np.ndarray, queries: np.ndarray, *, metric: str = "euclidean", block_size: int = 1024
) -> np.ndarray:
    """int32 [M]: for each query image, the index of the nearest training image, the first of equals."""
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric is {metric!r}; it must be 'euclidean' or 'cosine'")
    count = len(train)
    block = min(block_size, count)
    padding = -count % block
    resident = jnp.asarray(np.pad(train.reshape(count, -1), ((0, padding), (0, 0))).reshape(-1, block, train[0].size))
    found = []
    for start in range(0, len(queries), block_size):
        rows = queries[start : start + block_size].reshape(-1, train[0].size)
        padded = np.pad(rows, ((0, block_size - len(rows)), (0, 0)))
        found.append(np.asarray(_nearest(resident, padded, count, metric))[: len(rows)])
    return np.concatenate(found)


@functools.partial(jax.jit, static_argnames=("count", "metric"))
def _nearest(blocks: jax.Array, queries: jax.Array, count: int, metric: str) -> jax.Array:
    """Indices of the nearest rows: blocks uint8 [K, b, D] of which `count` rows are real, queries uint8 [m, D]."""
    queries = _pixels(queries, metric)

    def scan(best, item):
        distance, index = best
        rows, first = item
        pixels = _pixels(rows, metric)
        # |q|^2 is the same for all rows, so it plays no part in which is nearest.
        product = jnp.matmul(queries, pixels.T, precision="highest")
        to_rows = jnp.sum(pixels**2, axis=1)[None, :] - 2.0 * product
        place = first + jnp.arange(rows.shape[0])
        to_rows = jnp.where((place < count)[None, :], to_rows, jnp.inf)
        nearest = jnp.argmin(to_rows, axis=1)
        nearest_distance = jnp.min(to_rows, axis=1)
        closer = nearest_distance < distance
        return (jnp.where(closer, nearest_distance, distance), jnp.where(closer, first + nearest, index)), None

    start = (jnp.full(queries.shape[0], jnp.inf), jnp.zeros(queries.shape[0], jnp.int32))
    firsts = jnp.arange(blocks.shape[0]) * blocks.shape[1]
    (_, index), _ = jax.lax.scan(scan, start, (blocks, firsts))
    return index


def _pixels(rows: jax.Array, metric: str) -> jax.Array:
    pixels = rows.astype(jnp.float32) / 255.0
    if metric == "cosine":
        pixels = pixels / jnp.maximum(jnp.linalg.norm(pixels, axis=1, keepdims=True), 1e-12)
    return pixels
