"""What was found, by how frequent the classes are: figures of the head, the middle and the tail, and of all alike.

Every figure is a pair (numerator [B], denominator [B]), whose sums over the examples are divided.
"""

from typing import Any

import jax
import jax.numpy as jnp

NAMES = ("head", "medium", "tail")
Pairs = dict[str, tuple[jax.Array, jax.Array]]


def of_labels(name: str, hits: jax.Array, labels: jax.Array, classes: dict[str, Any]) -> Pairs:
    """A share of hits, float [B], of the examples whose label [B] is in each band, and its mean over the classes.

    Args:
      name: of the figure: `top1_tail`, `macro_top1`.
      hits: 0 or 1.
      labels: int [B].
      classes: 'band' int8 [C], see `evaluation.bands`, and 'eval_count' int [C], evaluated examples of each class.
    """
    take = lambda of_class: jnp.take(of_class, labels, axis=0, mode="clip")
    band, share = take(classes["band"]), 1 / jnp.maximum(take(classes["eval_count"]), 1)
    found = {f"macro_{name}": (hits * share, share)}
    for place, part in enumerate(NAMES):
        inside = (band == place).astype(jnp.float32)
        found[f"{name}_{part}"] = hits * inside, inside
    return found


def of_rankings(ids: jax.Array, labels: jax.Array, k: int, classes: dict[str, Any]) -> Pairs:
    """Of the labels of each band, the share that is among the first k of the rankings of their documents.

    Args:
      ids: int [B, K], best first.
      labels: int [B, W], -1 where there is none.
      k: at most K.
      classes: 'band' int8 [C].
    """
    found = (ids[:, None, :k] == labels[:, :, None]).any(axis=2)
    band = jnp.where(labels >= 0, jnp.take(classes["band"], jnp.maximum(labels, 0), axis=0, mode="clip"), -1)
    count = lambda which: which.sum(axis=1).astype(jnp.float32)
    return {f"R@{k}_{part}": (count(found & (band == at)), count(band == at)) for at, part in enumerate(NAMES)}
