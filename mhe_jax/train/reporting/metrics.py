"""Metrics as mergeable (sum, count) pairs, exact under padding, batching and sharding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# name -> float32 [2]: weighted sum and total weight.
Sums = dict[str, Any]


def weighted(values: dict[str, Any], weight: jax.Array) -> Sums:
    """Sums per-example values under weights [B]; a row of weight 0 counts for nothing, even if it is not finite.

    A value is an array [B], which counts as much as its example, or a pair (numerator [B], denominator [B]).
    """
    total = lambda part: jnp.where(weight > 0, part * weight, 0).sum()
    pairs = {name: v if isinstance(v, tuple) else (v, jnp.ones_like(weight)) for name, v in values.items()}
    return {name: jnp.stack([total(numerator), total(denominator)]) for name, (numerator, denominator) in pairs.items()}


def merge(left: Sums, right: Sums) -> Sums:
    """The sums over both parts. An empty dict is the neutral element."""
    return jax.tree.map(lambda a, b: a + b, left, right) if left and right else left or right


def means(sums: Sums) -> dict[str, float]:
    """Host-side averages; NaN where nothing was counted."""
    totals = {name: np.asarray(pair, np.float64) for name, pair in sums.items()}
    return {name: float(total / count) if count else float("nan") for name, (total, count) in totals.items()}
