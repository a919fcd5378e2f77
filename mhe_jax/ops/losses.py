"""Losses on logits: one value per example, no reduction over the batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int


def smoothed_cross_entropy(
    lse: Float[Array, "*batch"],
    target: Float[Array, "*batch"],
    total: Float[Array, "*batch"] | float,
    num_valid: Int[Array, "*#batch"] | int,
    label_smoothing: float,
) -> Float[Array, "*batch"]:
    """Cross-entropy from a softmax's statistics: lse - (1 - eps) * target - eps * total / num_valid.

    >>> lse, target, total = jnp.array([4.0]), jnp.array([3.0]), jnp.array([3.0])
    >>> smoothed_cross_entropy(lse, target, total, num_valid=3, label_smoothing=0.25).tolist()
    [1.5]

    Args:
      lse: log-sum-exp over the valid classes [...].
      target: logit of the label [...].
      total: sum of the valid logits [...]; unread if `label_smoothing` is 0.
      num_valid: how many classes are valid, a number or [...].
      label_smoothing: probability eps spread evenly over the valid classes.
    """
    if not label_smoothing:
        return lse - target
    return lse - (1 - label_smoothing) * target - label_smoothing * total / num_valid


def softmax_cross_entropy(
    logits: Float[Array, "*batch classes"],
    labels: Int[Array, "*batch"],
    mask: Bool[Array, "*batch classes"] | None = None,
    label_smoothing: float = 0.0,
) -> Float32[Array, "*batch"]:
    """Softmax cross-entropy over the last axis: logits [..., n], labels int [...], mask bool [..., n] or None -> [...].

    Masked classes have probability 0 and receive none of the smoothing. Every row needs one unmasked class.
    """
    logits = logits.astype(jnp.float32)
    target = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    if mask is None:
        mask = jnp.ones_like(logits, bool)
    lse = jax.nn.logsumexp(jnp.where(mask, logits, -jnp.inf), axis=-1)
    total = jnp.where(mask, logits, 0.0).sum(axis=-1)
    return smoothed_cross_entropy(lse, target, total, mask.sum(axis=-1), label_smoothing)


def soft_cross_entropy(
    logits: Float[Array, "batch classes"],
    slots: Int[Array, "batch width"],
    targets: Float[Array, "batch width"],
    mask: Bool[Array, "batch classes"],
    label_smoothing: float = 0.0,
) -> Float32[Array, "batch"]:
    """Softmax cross-entropy against a distribution over a few of the classes.

    >>> logits, mask = jnp.log(jnp.array([[0.5, 0.25, 0.25]])), jnp.ones((1, 3), bool)
    >>> loss = soft_cross_entropy(logits, jnp.array([[0, 1]]), jnp.array([[0.5, 0.5]]), mask)
    >>> round((loss / jnp.log(2)).item(), 4)
    1.5

    Args:
      logits: float [B, n].
      slots: int [B, W], the places of labels; n for one that does not compete.
      targets: [B, W], the labels' probabilities; those of labels that compete are scaled to a sum of 1.
      mask: bool [B, n], the classes that compete.
      label_smoothing: as in `softmax_cross_entropy`.

    Returns:
      float32 [B]; 0 where no label competes.
    """
    logits = logits.astype(jnp.float32)
    targets = jnp.where(slots < logits.shape[1], targets, 0.0)
    mass = targets.sum(axis=1)
    own = jnp.take_along_axis(logits, slots, axis=1, mode="fill", fill_value=0.0)
    target = jnp.where(targets > 0, targets * own, 0.0).sum(axis=1) / jnp.where(mass > 0, mass, 1.0)
    lse = jax.nn.logsumexp(jnp.where(mask, logits, -jnp.inf), axis=1)
    total = jnp.where(mask, logits, 0.0).sum(axis=1)
    loss = smoothed_cross_entropy(lse, target, total, mask.sum(axis=1), label_smoothing)
    return jnp.where(mass > 0, loss, 0.0)


def softmax_concat(logits: Float[Array, "batch slots"], slots: Int[Array, "batch heads"]) -> Float32[Array, "batch"]:
    """One softmax over the logits of all heads, and the negative log-probabilities of the H true slots summed.

    The reference's ImageNet loss for the product head. logits [B, S], slots int [B, H] into S -> [B].
    """
    return -jnp.take_along_axis(jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1), slots, axis=-1).sum(axis=-1)


def bce_concat(logits: Float[Array, "batch slots"], slots: Int[Array, "batch heads"]) -> Float32[Array, "batch"]:
    """Sigmoid cross-entropy against a target that is 1 at the H true slots, averaged over all S slots.

    The reference's CIFAR loss for the product head. logits [B, S], slots int [B, H], distinct, into S -> [B].
    """
    logits = logits.astype(jnp.float32)
    # -log(1 - sigmoid(x)) = softplus(x), and a true slot changes it to softplus(x) - x.
    positive = jnp.take_along_axis(logits, slots, axis=-1).sum(axis=-1)
    return (jax.nn.softplus(logits).sum(axis=-1) - positive) / logits.shape[-1]
