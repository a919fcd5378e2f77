"""Self-attention over texts padded on the right, and the shift that relative positions need."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp


def self_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    length: jax.Array,
    bias: jax.Array | None = None,
    drop: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    """Each token's mean of the values of the real tokens, weighted by softmax(query · key / √D + bias): [B, T, N, D].

    Scores and softmax are float32 or wider. Without `bias` and `drop` a fused kernel is used where there is one.

    Args:
      query, key, value: float [B, T, N, D], N heads.
      length: int32 [B], real tokens, at least 1.
      bias: float [N, T, T], added to the scores of all texts.
      drop: applied to the weights [B, N, T, T].
    """
    if bias is None and drop is None:
        # Not by a mask: cuDNN's way with those has been faulty.
        implementation: Literal["cudnn", "xla"] = "cudnn" if _cudnn_takes(query) else "xla"
        return jax.nn.dot_product_attention(
            query, key, value, key_value_seq_lengths=length, implementation=implementation
        )
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bind,bjnd->bnij", query, key, preferred_element_type=wide) / query.shape[-1] ** 0.5
    return attend(scores if bias is None else scores + bias[None], value, length, drop)


def attend(
    scores: jax.Array, value: jax.Array, length: jax.Array, drop: Callable[[jax.Array], jax.Array] | None = None
) -> jax.Array:
    """Values weighted by the softmax of scores [B, N, T, T] over the real tokens; arguments as in `self_attention`."""
    real = jnp.arange(scores.shape[-1])[None, :] < length[:, None]
    weights = jax.nn.softmax(jnp.where(real[:, None, None, :], scores, jnp.finfo(scores.dtype).min), axis=-1)
    weights = weights.astype(value.dtype)
    return jnp.einsum("bnij,bjnd->bind", weights if drop is None else drop(weights), value)


def skew(scores: jax.Array) -> jax.Array:
    """From relative to absolute positions: [..., T, 2T] -> [..., T, T], where (i, j) is the old (i, T - i + j).

    Column p of the argument belongs to keys that stand p - T places behind the query. A reshape does what would
    otherwise be a gather: rows that are one column short move by one place each. Source: Transformer-XL, appendix B.
    """
    *lead, t, width = scores.shape
    rows = scores.reshape(*lead, width, t)[..., 1:, :].reshape(*lead, t, width - 1)
    return rows[..., :t]


def _cudnn_takes(query: jax.Array) -> bool:
    """Whether cuDNN's fused attention exists for this head size and dtype, on this machine's devices."""
    head_dim = query.shape[-1]
    if query.dtype not in (jnp.bfloat16, jnp.float16) or head_dim % 8 or head_dim > 128:
        return False
    device = jax.local_devices()[0]
    return device.platform == "gpu" and "NVIDIA" in device.device_kind and float(device.compute_capability) >= 8
