"""Rotary positions: queries and keys are turned by angles that grow with their place (RoFormer, arXiv 2104.09864)."""

import jax
import jax.numpy as jnp


def rotary_angles(t: int, width: int, base: float) -> jax.Array:
    """Angles of positions 0 .. t-1, float32 [t, width / 2]: position · base^(-2i / width).

    Args:
      t: positions.
      width: of a head, even.
      base: the larger, the slower the slowest pair of numbers turns.
    """
    frequencies = 1 / base ** (jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    return jnp.arange(t, dtype=jnp.float32)[:, None] * frequencies[None, :]


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
    """Heads float [B, T, N, D] turned by `angles` [T, D / 2], number i together with number i + D / 2, in float32."""
    first, second = jnp.split(x.astype(jnp.promote_types(x.dtype, jnp.float32)), 2, axis=-1)
    cos, sin = jnp.cos(angles)[None, :, None, :], jnp.sin(angles)[None, :, None, :]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
