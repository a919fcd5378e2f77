"""One vector per text from the states of its tokens."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

POOLINGS = ("first", "last", "mean")


def pool(states: jax.Array, length: jax.Array, pooling: str) -> jax.Array:
    """[B, T, D] -> [B, D]: the 'first' token, the 'last' real one, or the 'mean' of the real ones.

    Args:
      states: float [B, T, D].
      length: int [B], real tokens of each text, at least 1; the others stand behind them.
      pooling: one of `POOLINGS`.
    """
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return jnp.take_along_axis(states, length[:, None, None] - 1, axis=1)[:, 0]
    wide = jnp.promote_types(states.dtype, jnp.float32)
    real = jnp.arange(states.shape[1])[None, :] < length[:, None]
    total = jnp.where(real[:, :, None], states, 0).sum(axis=1, dtype=wide)
    return (total / length[:, None].astype(wide)).astype(states.dtype)


def last_layers(states: Sequence[jax.Array], length: jax.Array, pooling: str, count: int) -> jax.Array:
    """The pooled states of the last `count` layers side by side, the last layer first: [B, count * D]."""
    return jnp.concatenate([pool(layer, length, pooling) for layer in states[: -count - 1 : -1]], axis=-1)
