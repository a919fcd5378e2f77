"""Sigmoid cross-entropy of many labels over a long table of classes, one block of rows at a time.

With targets y the loss of an example is `sum_c softplus(z_c) - sum_{y_c = 1} z_c`, and its gradient `sigmoid(z) - y`.
The targets are lists of the few positive classes; neither they nor the logits ever exist as [B, C], in no pass. The
gradient needs no value, so a step that logs none leaves the value out, and its pass over the table with it.

Source: the loss of Renee (Jain et al., MLSys 2023), skipped between log lines; blocks as in `mhe_jax.ops.chunked`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int

from mhe_jax.ops import blocks
from mhe_jax.ops.owned import Visit, after
from mhe_jax.ops.storage import Scaled


def blocked_bce(
    features: Float[Array, "batch dim"],
    kernel: Float[Array, "classes dim"] | Scaled,
    bias: Float[Array, "classes"] | None,
    labels: Int[Array, "batch width"],
    mask: Bool[Array, "classes"],
    want_value: Bool[Array, ""] | None = None,
    block_size: int | None = None,
    visit: Visit | None = None,
    targets: Float[Array, "batch width"] | None = None,
    weights: Float[Array, "batch width"] | None = None,
) -> Float32[Array, "batch"]:
    """Sigmoid cross-entropy of each example, summed over the unmasked classes.

    >>> features, kernel = jnp.zeros((2, 3)), jnp.ones((4, 3))
    >>> labels = jnp.array([[0, 2], [1, -1]])
    >>> loss = blocked_bce(features, kernel, None, labels, jnp.ones(4, bool))
    >>> (loss / jnp.log(2)).tolist()  # each of four logits is 0
    [4.0, 4.0]

    Products run in the dtype of `features` and accumulate in float32.

    Args:
      features: float [B, D].
      kernel: float [C, D].
      bias: float [C], or None.
      labels: int [B, W], the positive classes of each example, distinct; outside 0 .. C-1 they mean nothing.
      mask: bool [C]; False rows are no classes. A label must not be one.
      want_value: bool []; where False the result is 0, and its gradient what it always is. None: always wanted.
      block_size: rows per block, any number; None or 0 chooses one that keeps a block within 64 MiB, both its logits
        and its rows.
      visit: as in `chunked.blocked_lse`.
      targets: in 0 .. 1, of the labels; None: 1 each. Classes that are not listed have the target 0.
      weights: of the positive parts of the labels' terms, -w t log sigmoid(z) - (1 - t) log(1 - sigmoid(z)); None: 1
        each. Neither has a gradient.

    Returns:
      float32 [B].
    """
    return _blocked_bce(block_size, features, kernel, bias, labels, mask, want_value, visit, targets, weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked_bce(block_size, features, kernel, bias, labels, mask, want_value, visit, targets, weights):
    nothing = blocks.zero_per_example(features)

    def step(total, block):
        negative = jnp.where(block.live[None, :], jax.nn.softplus(block.logits), 0.0).sum(axis=1)
        at = block.places(labels)
        positive = jnp.take_along_axis(block.logits, at, axis=1, mode="fill", fill_value=0.0)
        if targets is not None:
            positive *= targets
        if weights is not None:
            logits = jnp.take_along_axis(block.logits, at, axis=1, mode="fill", fill_value=-jnp.inf)
            more = (weights - 1) * jax.nn.softplus(logits)
            positive = weights * positive - (more if targets is None else targets * more)
        return total + negative - positive.sum(axis=1)

    value = lambda: blocks.forward(step, nothing, block_size, features, kernel, bias, mask, visit=visit)
    return value() if want_value is None else lax.cond(want_value, value, lambda: nothing)


def _forward(block_size, features, kernel, bias, labels, mask, want_value, visit, targets, weights):
    out = _blocked_bce(block_size, features, kernel, bias, labels, mask, want_value, visit, targets, weights)
    return out, (out, features, kernel, bias, labels, mask, visit, targets, weights)


def _backward(block_size, residuals, cotangent):
    value, features, kernel, bias, labels, mask, visit, targets, weights = residuals
    if visit is not None:
        cotangent = after(cotangent, value)  # which no gradient needs
    hot = jnp.ones((), jnp.float32) if targets is None else targets

    def d_logits(block):
        probabilities = jnp.where(block.live[None, :], jax.nn.sigmoid(block.logits), 0.0)
        places = block.places(labels)
        more = jnp.broadcast_to(-hot, labels.shape)
        if weights is not None:
            own = jnp.take_along_axis(probabilities, places, axis=1, mode="fill", fill_value=0.0)
            more = hot * ((weights - 1) * own - weights)
        # Subtracted before rounding: in bfloat16 a probability near 1 would cancel against its target.
        return probabilities * cotangent[:, None], blocks.More(places, more * cotangent[:, None])

    found = blocks.backward(d_logits, block_size, features, kernel, bias, mask, visit=visit)
    d_features, d_kernel, d_bias, d_visit = found
    return d_features, d_kernel, d_bias, None, None, None, d_visit, None, None


_blocked_bce.defvjp(_forward, _backward)
