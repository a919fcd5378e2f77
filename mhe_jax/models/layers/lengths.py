"""Rows of one length, whatever scale they came at."""

import jax
import jax.numpy as jnp

_SMALLEST = 1e-24  # square of the length up to which a row is taken for zeros


def unit_length(x: jax.Array) -> jax.Array:
    """Rows float [..., D] scaled to length 1 in float32 or wider, in their dtype.

    One of zeros, as documents without a known word have, stays as it is, and its gradient is 0, where that of the norm
    would be none; one that has NaN stays NaN.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    squares = jnp.square(wide).sum(axis=-1, keepdims=True)
    some = ~(squares <= _SMALLEST)
    return jnp.where(some, wide * jax.lax.rsqrt(jnp.where(some, squares, 1)), 0).astype(x.dtype)
