"""Softmax statistics and top-k over a long table of classes, one block of rows at a time.

With 10^6 classes the logits of a batch outweigh the network below them. Here one block of logits exists at a time, in
the forward and in the backward pass: the forward keeps a running log-sum-exp, the backward recomputes each block from
it. What is saved between the two is the input and one number per example, and all logits where they are few.

Inside `jax.shard_map`, features and table must vary over the same mesh axes (`jax.lax.pcast`), unless the
table is visited.

Source: online softmax (Milakov and Gimelshein, arXiv 1805.02867); recomputation from the log-sum-exp as in Cut
Cross-Entropy (arXiv 2411.09009), with float32 accumulators.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int

from mhe_jax.ops import blocks
from mhe_jax.ops.owned import Visit
from mhe_jax.ops.rows import Groups
from mhe_jax.ops.storage import Scaled


def blocked_lse(
    features: Float[Array, "batch dim"],
    kernel: Float[Array, "classes dim"] | Scaled | Groups,
    bias: Float[Array, "classes"] | None,
    labels: Int[Array, "batch"] | Int[Array, "batch width"],
    mask: Bool[Array, "classes"],
    block_size: int | None = None,
    with_total: bool = False,
    visit: Visit | None = None,
    weights: Float[Array, "batch width"] | None = None,
) -> tuple[Float32[Array, "batch"], Float32[Array, "batch"], Float32[Array, "batch"]]:
    """Log-sum-exp of `features @ kernel.T + bias` over unmasked rows, the label's logit, and the sum of the logits.

    Neither [B, C] logits nor their gradient ever exist. Products run in the dtype of `features` and accumulate in
    float32. The three results are all that a label-smoothed cross-entropy needs.

    >>> features, kernel = jnp.eye(2, 3), jnp.arange(12.0).reshape(4, 3)
    >>> lse, target, _ = blocked_lse(features, kernel, None, jnp.array([3, 0]), jnp.arange(4) < 3)
    >>> jnp.allclose(lse, jax.nn.logsumexp(features @ kernel[:3].T, axis=1)).item(), target.tolist()
    (True, [9.0, 1.0])

    Args:
      features: float [B, D].
      kernel: float [C, D], or groups of one, see `mhe_jax.ops.rows`, whose rows are counted through.
      bias: float [C], or None.
      labels: int [B], or some distinct ones of each example [B, W]; outside 0 .. C-1 a label's logit is 0.
      mask: bool [C]; False rows count as -inf.
      block_size: rows per block, any number; None or 0 chooses one that keeps a block within 64 MiB, its logits and its
        rows.
      with_total: whether the sum is wanted; it is 0 otherwise.
      visit: how the rows move, see `mhe_jax.ops.owned`; the kernel's gradient is then the kernel after the step.
      weights: of labels [B, W], by which their logits are summed up, and which have no gradient; None: 1 each. A label
        may then be in a row twice.

    Returns:
      `(lse, target, total)`, float32 [B] each, the second of all labels of an example; lse is -inf, with zero gradient,
      if every row is masked.
    """
    return _blocked_lse(block_size, with_total, features, kernel, bias, labels, mask, visit, weights)


def blocked_topk(
    features: Float[Array, "batch dim"],
    kernel: Float[Array, "classes dim"] | Scaled,
    bias: Float[Array, "classes"] | None,
    mask: Bool[Array, "classes"],
    k: int,
    block_size: int | None = None,
    unit_rows: bool = False,
    centers: int = 1,
) -> tuple[Float32[Array, "batch {k}"], Int[Array, "batch {k}"], Float32[Array, "batch"]]:
    """Exact k largest logits among unmasked rows, their rows, and the log-sum-exp; arguments as in `blocked_lse`.

    With `unit_rows` rows are divided by their norms first, block by block; zero rows stay zero. With several `centers`
    a class is so many rows, of which the largest logit counts; the mask is of rows, and the ids are of classes.

    >>> features, kernel = jnp.ones((1, 1)), jnp.array([[3.0], [9.0], [5.0], [7.0]])
    >>> logits, ids, _ = blocked_topk(features, kernel, None, jnp.array([True, True, True, False]), k=2)
    >>> logits.tolist(), ids.tolist()
    ([[9.0, 5.0]], [[1, 2]])

    Returns:
      `(logits [B, k], ids [B, k], lse [B])`, best first, ties to the lower id. Where fewer than k rows are unmasked,
      logits are -inf and ids -1.
    """
    block_size = blocks.of_whole_classes(features, block_size, centers)
    size, _ = blocks.layout(features, kernel, block_size)

    def step(carry, block):
        best, best_ids, lse = carry
        logits = blocks.nearest(jnp.where(block.live[None, :], block.logits, -jnp.inf), centers)
        top, at = lax.top_k(logits, min(k, size // centers))
        ids = jnp.where(top == -jnp.inf, -1, block.start // centers + at)
        # lax.top_k is stable and earlier blocks come first, so equal logits stay in the order of their ids.
        best, order = lax.top_k(jnp.concatenate([best, top], axis=1), k)
        best_ids = jnp.take_along_axis(jnp.concatenate([best_ids, ids], axis=1), order, axis=1)
        return best, best_ids, jnp.logaddexp(lse, jax.nn.logsumexp(logits, axis=1))

    zero = blocks.zero_per_example(features)
    zeros = jnp.broadcast_to(zero[:, None], (features.shape[0], k))
    nothing = (zeros - jnp.inf, jnp.full_like(zeros, -1, jnp.int32), zero - jnp.inf)
    best, ids, lse = blocks.forward(step, nothing, block_size, features, kernel, bias, mask, unit_rows)
    return best, ids, lse


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _blocked_lse(block_size, with_total, *arguments):
    return _passed(False, block_size, with_total, *arguments)[0]


def _passed(keep, block_size, with_total, features, kernel, bias, labels, mask, visit, weights):
    def step(carry, block):
        lse, target, total = carry
        lse = jnp.logaddexp(lse, jax.nn.logsumexp(block.logits, axis=1, where=block.live[None, :]))
        own = block.places(labels.reshape(zero.shape[0], -1))
        logits = jnp.take_along_axis(block.logits, own, axis=1, mode="fill", fill_value=0.0)
        target += (logits if weights is None else weights * logits).sum(axis=1)
        if with_total:
            total += jnp.where(block.live[None, :], block.logits, 0.0).sum(axis=1)
        return lse, target, total

    zero = blocks.zero_per_example(features)
    initial = zero - jnp.inf, zero, zero
    return blocks.forward_and_known(step, initial, block_size, features, kernel, bias, mask, visit=visit, keep=keep)


def _blocked_lse_forward(block_size, with_total, *arguments):
    out, known = _passed(True, block_size, with_total, *arguments)
    return out, (*arguments, out[0], known)


def _blocked_lse_backward(block_size, with_total, residuals, cotangents):
    features, kernel, bias, labels, mask, visit, weights, lse, known = residuals
    d_lse, d_target, d_total = cotangents
    d_labels = d_target if weights is None else d_target[:, None] * weights
    shift = jnp.where(lse == -jnp.inf, 0.0, lse)  # exp(-inf - -inf) would be NaN when every row is masked

    def d_logits(block):
        live = block.live[None, :]
        above = jnp.where(live, block.logits, -jnp.inf) - shift[:, None]
        # No logit is above its log-sum-exp, but rounding may say so: by 1e13 for logits of 1e20, whose exponential is
        # infinite.
        gradient = d_lse[:, None] * jnp.exp(jnp.minimum(above, 0.0))
        gradient = block.add_at(labels, gradient, d_labels)
        return gradient + jnp.where(live, d_total[:, None], 0.0) if with_total else gradient

    found = blocks.backward(d_logits, block_size, features, kernel, bias, mask, visit=visit, known=known)
    d_features, d_kernel, d_bias, d_visit = found
    return d_features, d_kernel, d_bias, None, None, d_visit, None


_blocked_lse.defvjp(_blocked_lse_forward, _blocked_lse_backward)
