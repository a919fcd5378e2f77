"""Softmax statistics and top-k over a long table of classes, one block of rows at a time.

With 10^6 classes the logits of a batch outweigh the network below them. Here one block of logits exists at a time, in
the forward and in the backward pass: the forward keeps a running log-sum-exp, the backward recomputes each block from
it. What is saved between the two is the input and one number per example.

Inside `jax.shard_map`, features and table must vary over the same mesh axes (`jax.lax.pcast`).

Source: online softmax (Milakov and Gimelshein, arXiv 1805.02867); recomputation from the log-sum-exp as in Cut
Cross-Entropy (arXiv 2411.09009), with float32 accumulators.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int

from mhe_jax.ops.margins import safe_normalize

_BLOCK_FLOATS = 2**24  # the automatic block holds at most 64 MiB of float32 logits, and of rows
_LANES = 128


def blocked_lse(
    features: Float[Array, "batch dim"],
    kernel: Float[Array, "classes dim"],
    bias: Float[Array, "classes"] | None,
    labels: Int[Array, "batch"],
    mask: Bool[Array, "classes"],
    block_size: int | None = None,
    with_total: bool = False,
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
      kernel: float [C, D].
      bias: float [C], or None.
      labels: int [B]; outside 0 .. C-1 the label's logit is 0.
      mask: bool [C]; False rows count as -inf.
      block_size: rows per block, any number; None or 0 chooses one that keeps a block within 64 MiB, its logits and its
        rows.
      with_total: whether the sum is wanted; it is 0 otherwise.

    Returns:
      `(lse, target, total)`, float32 [B] each; lse is -inf, with zero gradient, if every row is masked.
    """
    return _blocked_lse(block_size, with_total, features, kernel, bias, labels, mask)


def blocked_topk(
    features: Float[Array, "batch dim"],
    kernel: Float[Array, "classes dim"],
    bias: Float[Array, "classes"] | None,
    mask: Bool[Array, "classes"],
    k: int,
    block_size: int | None = None,
    unit_rows: bool = False,
) -> tuple[Float32[Array, "batch {k}"], Int[Array, "batch {k}"], Float32[Array, "batch"]]:
    """Exact k largest logits among unmasked rows, their rows, and the log-sum-exp; arguments as in `blocked_lse`.

    With `unit_rows` rows are divided by their norms first, block by block; zero rows stay zero.

    >>> features, kernel = jnp.ones((1, 1)), jnp.array([[3.0], [9.0], [5.0], [7.0]])
    >>> logits, ids, _ = blocked_topk(features, kernel, None, jnp.array([True, True, True, False]), k=2)
    >>> logits.tolist(), ids.tolist()
    ([[9.0, 5.0]], [[1, 2]])

    Returns:
      `(logits [B, k], ids [B, k], lse [B])`, best first, ties to the lower id. Where fewer than k rows are unmasked,
      logits are -inf and ids -1.
    """
    size, count = block_layout(features, kernel, block_size)

    def step(carry, index):
        best, best_ids, lse = carry
        block = block_at(index, size, features, kernel, bias, mask, unit_rows)
        logits = jnp.where(block.live[None, :], block.logits, -jnp.inf)
        top, at = lax.top_k(logits, min(k, size))
        ids = jnp.where(top == -jnp.inf, -1, block.start + at)
        # lax.top_k is stable and earlier blocks come first, so equal logits stay in the order of their ids.
        best, order = lax.top_k(jnp.concatenate([best, top], axis=1), k)
        best_ids = jnp.take_along_axis(jnp.concatenate([best_ids, ids], axis=1), order, axis=1)
        return (best, best_ids, jnp.logaddexp(lse, jax.nn.logsumexp(logits, axis=1))), None

    zero = zero_per_example(features)
    zeros = jnp.broadcast_to(zero[:, None], (features.shape[0], k))
    nothing = (zeros - jnp.inf, jnp.full_like(zeros, -1, jnp.int32), zero - jnp.inf)
    (best, ids, lse), _ = lax.scan(step, nothing, jnp.arange(count))
    return best, ids, lse


class _Block(NamedTuple):
    start: jax.Array  # id of the first row
    rows: jax.Array  # [size, D], in the features' dtype
    logits: jax.Array  # float32 [B, size]
    fresh: jax.Array  # bool [size]: not in an earlier block
    live: jax.Array  # bool [size]: fresh and unmasked


def zero_per_example(features):
    """float32 zeros [B] to start a scan from. Made of the features, for inside `jax.shard_map` a carry has to vary over
    the same mesh axes as the values it will hold."""
    return jnp.zeros_like(features[:, 0], jnp.float32)


def block_layout(features, kernel, block_size):
    """Rows per block and number of blocks."""
    num_rows = kernel.shape[0]
    fitting = _BLOCK_FLOATS // max(features.shape) // _LANES * _LANES
    size = min(block_size or max(fitting, _LANES), num_rows)
    return size, -(-num_rows // size)


def block_at(index, size, features, kernel, bias, mask, unit_rows=False) -> _Block:
    """Block `index`. The last one is shifted back to end at the table's end: no padded copy of the table is made."""
    start = jnp.minimum(index * size, kernel.shape[0] - size)
    rows = lax.dynamic_slice_in_dim(kernel, start, size)
    rows = (safe_normalize(rows)[0] if unit_rows else rows).astype(features.dtype)
    logits = jnp.einsum("bd,cd->bc", features, rows, preferred_element_type=jnp.float32)
    if bias is not None:
        logits += lax.dynamic_slice_in_dim(bias, start, size).astype(jnp.float32)[None, :]
    fresh = start + jnp.arange(size) >= index * size
    return _Block(start, rows, logits, fresh, fresh & lax.dynamic_slice_in_dim(mask, start, size))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _blocked_lse(block_size, with_total, features, kernel, bias, labels, mask):
    size, count = block_layout(features, kernel, block_size)

    def step(carry, index):
        lse, target, total = carry
        block = block_at(index, size, features, kernel, bias, mask)
        lse = jnp.logaddexp(lse, jax.nn.logsumexp(block.logits, axis=1, where=block.live[None, :]))
        here = (labels >= index * size) & (labels < block.start + size)
        at = jnp.clip(labels - block.start, 0, size - 1)
        target += jnp.where(here, jnp.take_along_axis(block.logits, at[:, None], axis=1)[:, 0], 0.0)
        if with_total:
            total += jnp.where(block.live[None, :], block.logits, 0.0).sum(axis=1)
        return (lse, target, total), None

    zero = zero_per_example(features)
    return lax.scan(step, (zero - jnp.inf, zero, zero), jnp.arange(count))[0]


def _blocked_lse_forward(block_size, with_total, features, kernel, bias, labels, mask):
    out = _blocked_lse(block_size, with_total, features, kernel, bias, labels, mask)
    return out, (features, kernel, bias, labels, mask, out[0])


def _blocked_lse_backward(block_size, with_total, residuals, cotangents):
    features, kernel, bias, labels, mask, lse = residuals
    d_lse, d_target, d_total = cotangents
    size, count = block_layout(features, kernel, block_size)
    shift = jnp.where(lse == -jnp.inf, 0.0, lse)  # exp(-inf - -inf) would be NaN when every row is masked

    def step(carry, index):
        d_features, d_kernel, d_bias = carry
        block = block_at(index, size, features, kernel, bias, mask)
        live = block.live[None, :]
        above = jnp.where(live, block.logits, -jnp.inf) - shift[:, None]
        # No logit is above its log-sum-exp, but rounding may say so: by 1e13 for logits of 1e20, whose exponential is
        # infinite.
        d_logits = d_lse[:, None] * jnp.exp(jnp.minimum(above, 0.0))
        is_label = (labels[:, None] == block.start + jnp.arange(size)[None, :]) & block.fresh[None, :]
        d_logits += jnp.where(is_label, d_target[:, None], 0.0)
        if with_total:
            d_logits += jnp.where(live, d_total[:, None], 0.0)
        low = d_logits.astype(features.dtype)
        d_features += jnp.einsum("bc,cd->bd", low, block.rows, preferred_element_type=jnp.float32)
        d_rows = jnp.einsum("bc,bd->cd", low, features, preferred_element_type=jnp.float32)
        d_kernel = add_rows(d_kernel, block.start, d_rows)
        if bias is not None:
            d_bias = add_rows(d_bias, block.start, d_logits.sum(axis=0))
        return (d_features, d_kernel, d_bias), None

    zeros = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), (features, kernel, bias))
    gradients, _ = lax.scan(step, zeros, jnp.arange(count))
    d_inputs = jax.tree.map(lambda gradient, x: gradient.astype(x.dtype), gradients, (features, kernel, bias))
    return (*d_inputs, None, None)


def add_rows(table, start, rows):
    """Adds to rows `start ..` of the table; in place where `table` is the carry of a loop."""
    old = lax.dynamic_slice_in_dim(table, start, rows.shape[0])
    return lax.dynamic_update_slice_in_dim(table, old + rows, start, axis=0)


_blocked_lse.defvjp(_blocked_lse_forward, _blocked_lse_backward)
