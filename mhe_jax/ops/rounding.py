"""Rounding to bfloat16 that is right on average.

A small step on a large weight is lost when it is rounded to the nearest number, every time. Rounded up or down by
chance, with the odds of how near each is, its mean stays.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, BFloat16, Float32, Int, UInt32

_DROPPED_BITS = 16  # of a float32's mantissa, those that a bfloat16 lacks


def stochastic_bfloat16(
    x: Float32[Array, "rows dim"], row_ids: Int[Array, "rows"], key: UInt32[Array, "2"]
) -> BFloat16[Array, "rows dim"]:
    """Each number as one of the two bfloat16 numbers around it, nearer ones more often; exact ones stay as they are.

    The chance is a hash of the key and of the number's place, so that the same rows come out the same wherever and in
    whatever pieces they are computed. Infinities stay.

    >>> x = jnp.full((1000, 2), 1 + 2.0**-9)  # a quarter of the way from 1 to the next, 1 + 2**-7
    >>> rounded = stochastic_bfloat16(x, jnp.arange(1000), jnp.array([1, 2], jnp.uint32))
    >>> sorted(set(rounded.ravel().tolist())), round(float(rounded.astype(float).mean()), 3)
    ([1.0, 1.0078125], 1.002)

    Args:
      x: float32 [R, D].
      row_ids: int [R], which rows of the table these are.
      key: uint32 [2]; another one for each step and table.
    """
    chance = _hash(_hash(row_ids.astype(jnp.uint32) ^ key[0])[:, None] + _columns(x.shape[1])[None, :] ^ key[1])
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + (chance >> _DROPPED_BITS)
    kept = bits & jnp.uint32(0xFFFFFFFF << _DROPPED_BITS & 0xFFFFFFFF)
    rounded = jax.lax.bitcast_convert_type(kept, jnp.float32)
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)


def _columns(count: int) -> jax.Array:
    return jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)


def _hash(x: jax.Array) -> jax.Array:
    """The last mix of MurmurHash3 (Appleby): every bit of a uint32 depends on every other."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
