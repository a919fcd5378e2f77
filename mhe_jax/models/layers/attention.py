"""Self-attention, by a fused kernel where there is one."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim

from mhe_jax.ops.products import product


def self_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    length: jax.Array | None = None,
    bias: jax.Array | None = None,
    drop: Callable[[jax.Array], jax.Array] | None = None,
    window: int | None = None,
) -> jax.Array:
    """Each token's mean of the values of the real tokens, weighted by softmax(query · key / √D + bias): [B, T, N, D].

    Scores and softmax are float32 or wider. Without `bias` and `drop` a fused kernel is used where there is one.

    Args:
      query, key, value: float [B, T, N, D], N heads.
      length: int32 [B], real tokens, at least 1, before the padding; None: all are.
      bias: float [N, T, T], added to the scores of all texts.
      drop: applied to the weights [B, N, T, T].
      window: how far away a token may be to be seen; None: any are.
    """
    # Of a program for any length, which a run is exported as, the window may matter or not.
    any_length = is_symbolic_dim(query.shape[1])
    if window is not None and not any_length and window >= query.shape[1] - 1:
        window = None
    fused = _cudnn_takes(query)
    # JAX's own way without a kernel multiplies float32 gradients with narrow operands.
    if bias is None and drop is None and not (any_length and window) and (fused or query.dtype == _wide(query)):
        # Not by a mask: cuDNN's way with those has been faulty.
        implementation: Literal["cudnn", "xla"] = "cudnn" if fused else "xla"
        return jax.nn.dot_product_attention(
            query, key, value, key_value_seq_lengths=length, local_window_size=window, implementation=implementation
        )
    scores = product("bind,bjnd->bnij", query, key) / query.shape[-1] ** 0.5
    if bias is not None:
        scores += bias[None]
    if window is not None:
        place = jnp.arange(scores.shape[-1])
        near = jnp.abs(place[:, None] - place[None, :]) <= window
        scores = jnp.where(near[None, None], scores, jnp.finfo(scores.dtype).min)
    return attend(scores, value, length, drop)


def attend(
    scores: jax.Array,
    value: jax.Array,
    length: jax.Array | None = None,
    drop: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    """Values weighted by the softmax of scores [B, N, T, T] over the real tokens; arguments as in `self_attention`."""
    if length is not None:
        real = jnp.arange(scores.shape[-1])[None, :] < length[:, None]
        scores = jnp.where(real[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bnij,bjnd->bind", weights if drop is None else drop(weights), value)


def _wide(x: jax.Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def _cudnn_takes(query: jax.Array) -> bool:
    """Whether cuDNN's fused attention exists for this head size and dtype, on this machine's devices."""
    head_dim = query.shape[-1]
    if query.dtype not in (jnp.bfloat16, jnp.float16) or head_dim % 8 or head_dim > 128:
        return False
    device = jax.local_devices()[0]
    return device.platform == "gpu" and "NVIDIA" in device.device_kind and float(device.compute_capability) >= 8
