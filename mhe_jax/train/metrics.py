"""Metrics as mergeable (sum, count) pairs, exact under padding, batching and sharding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# name -> float32 [2]: weighted sum and total weight.
Sums = dict[str, Any]


def weighted(values: dict[str, jax.Array], weight: jax.Array) -> Sums:
    """Sums per-example values [B] under weights [B]; a row of weight 0 counts for nothing, even if it is not finite."""
    return {
        name: jnp.stack([jnp.where(weight > 0, value * weight, 0).sum(), weight.sum()])
        for name, value in values.items()
    }


def merge(left: Sums, right: Sums) -> Sums:
    """The sums over both parts. An empty dict is the neutral element."""
    return jax.tree.map(lambda a, b: a + b, left, right) if left and right else left or right


def means(sums: Sums) -> dict[str, float]:
    """Host-side averages; NaN where nothing was counted."""
    totals = {name: np.asarray(pair, np.float64) for name, pair in sums.items()}
    return {name: float(total / count) if count else float("nan") for name, (total, count) in totals.items()}
