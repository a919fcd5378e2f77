"""Losses on logits: one value per example, no reduction over the batch."""

import jax
import jax.numpy as jnp


def smoothed_cross_entropy(lse, target, total, num_valid, label_smoothing: float) -> jax.Array:
    """Cross-entropy from a softmax's statistics: lse - (1 - eps) * target - eps * total / num_valid.

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


def softmax_cross_entropy(logits, labels, mask=None, label_smoothing: float = 0.0) -> jax.Array:
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


def softmax_concat(logits, slots) -> jax.Array:
    """One softmax over the logits of all heads, and the negative log-probabilities of the H true slots summed.

    The reference's ImageNet loss for the product head. logits [B, S], slots int [B, H] into S -> [B].
    """
    return -jnp.take_along_axis(jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1), slots, axis=-1).sum(axis=-1)


def bce_concat(logits, slots) -> jax.Array:
    """Sigmoid cross-entropy against a target that is 1 at the H true slots, averaged over all S slots.

    The reference's CIFAR loss for the product head. logits [B, S], slots int [B, H], distinct, into S -> [B].
    """
    logits = logits.astype(jnp.float32)
    # -log(1 - sigmoid(x)) = softplus(x), and a true slot changes it to softplus(x) - x.
    positive = jnp.take_along_axis(logits, slots, axis=-1).sum(axis=-1)
    return (jax.nn.softplus(logits).sum(axis=-1) - positive) / logits.shape[-1]
