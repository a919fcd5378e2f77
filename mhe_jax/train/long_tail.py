"""What a step makes of the classes' weights: how much each of its examples, or of their labels, counts in the loss."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Emphasis(NamedTuple):
    """How much things count: examples, float32 [B] or 1, and their labels, [B, W] or None for 1 each."""

    of_examples: jax.Array | float = 1.0
    of_labels: jax.Array | None = None


def emphasis(classes: dict[str, Any], labels: jax.Array, step: jax.Array) -> Emphasis:
    """The weights of a batch's labels.

    Args:
      classes: what all steps know of the classes; 'weight' float32 [C] by code and 'weight_from' int [], the first step
        in which they count; or nothing of that.
      labels: int [B], or of many [B, W], -1 where there is none.
      step: int [], of the run.
    """
    if "weight" not in classes:
        return Emphasis()
    found = jnp.take(classes["weight"], jnp.maximum(labels, 0), axis=0, mode="clip")
    found = jnp.where(step >= classes["weight_from"], found, 1.0)
    return Emphasis(of_labels=found) if labels.ndim == 2 else Emphasis(found)


def of_batch(classes: dict[str, Any], batch: dict[str, Any], step: jax.Array) -> tuple[Emphasis, dict[str, Any]]:
    """How much the examples of a batch count, and the batch.

    Of mixed pictures each of the two labels counts by its own class: the batch then has 'label_emphasis' float32 [2B],
    of each example's own label and the other's, which the task multiplies their losses by, and examples count alike.

    Args:
      classes: as in `emphasis`.
      batch: with 'label', and of mixed pictures 'other_label' int [B].
      step: int [], of the run.
    """
    found = emphasis(classes, batch["label"], step)
    if "other_label" not in batch or "weight" not in classes:
        return found, batch
    other = emphasis(classes, batch["other_label"], step)
    both = jnp.stack([found.of_examples, other.of_examples], axis=1).reshape(-1)
    return Emphasis(), {**batch, "label_emphasis": both}
