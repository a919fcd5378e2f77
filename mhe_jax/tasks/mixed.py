"""The loss of pictures that are mixed of two, and so belong to two classes by shares (Mixup, CutMix).

share · loss(own label) + (1 - share) · loss(the other's): for any head with one label an example, in one call of it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import Context


def with_both_labels(features: jax.Array, batch: dict, context: Context) -> tuple[jax.Array, dict, Context]:
    """Features, batch and context of twice as many examples: each one with its own label, then with the other's.

    Args:
      features: float [B, D].
      batch: with 'label' and 'other_label' int [B], and 'weight' float [B].
      context: of the head's loss.
    """
    # Not by jnp.repeat, whose gather would move rows from device to device.
    twice = lambda rows: jnp.stack([rows, rows], axis=1).reshape(-1, *rows.shape[1:])
    labels = jnp.stack([batch["label"], batch["other_label"]], axis=1).reshape(-1)
    weight = twice(batch["weight"])
    return twice(features), {**batch, "label": labels, "weight": weight}, dataclasses.replace(context, weight=weight)


def by_share(values: Any, share: jax.Array) -> Any:
    """What was found of each label, float [2B], as one number for each example, [B], by its share float [B]."""
    shares = jnp.stack([share, 1 - share], axis=1)
    return jax.tree.map(lambda value: (value.reshape(-1, 2) * shares).sum(axis=1), values)
