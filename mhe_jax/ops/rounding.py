"""Rounding to bfloat16 and float8 that is right on average.

A small step on a large weight is lost when it is rounded to the nearest number, every time. Rounded up or down by
chance, with the odds of how near each is, its mean stays.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, BFloat16, Float8e4m3fn, Float32, Int, UInt32

# Of a float32's 23 bits of mantissa those that the narrow type lacks.
_BFLOAT16_LACKS, _FLOAT8_LACKS = 16, 20
_FLOAT8_NORMAL, _FLOAT8_STEP = 2.0**-6, 2.0**-9  # the smallest normal number, and the step between those below it


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
    rounded = _drop_bits(x, _chance(x, row_ids, key), _BFLOAT16_LACKS)
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)


def stochastic_float8(
    x: Float32[Array, "rows dim"], row_ids: Int[Array, "rows"], key: UInt32[Array, "2"]
) -> Float8e4m3fn[Array, "rows dim"]:
    """The same for float8_e4m3fn, of numbers in -448 .. 448; others become NaN.

    >>> x = jnp.full((1000, 2), 1.03125)  # a quarter of the way from 1 to the next, 1.125
    >>> rounded = stochastic_float8(x, jnp.arange(1000), jnp.array([1, 2], jnp.uint32)).astype(float)
    >>> sorted(set(rounded.ravel().tolist())), round(float(rounded.mean()), 2)
    ([1.0, 1.125], 1.03)
    """
    chance = _chance(x, row_ids, key)
    share = (chance >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    low = jnp.floor(x / _FLOAT8_STEP + share) * _FLOAT8_STEP
    rounded = jnp.where(jnp.abs(x) < _FLOAT8_NORMAL, low, _drop_bits(x, chance, _FLOAT8_LACKS))
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.float8_e4m3fn)


def _drop_bits(x, chance, count):
    """Float32 numbers whose last `count` bits are 0, the next larger ones where those and the chance make one more."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + (chance >> (32 - count))
    return jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFFFFFF << count & 0xFFFFFFFF), jnp.float32)


def _chance(x, row_ids, key):
    """uint32 of the shape of x [R, D]."""
    return _hash(_hash(row_ids.astype(jnp.uint32) ^ key[0])[:, None] + _columns(x.shape[1])[None, :] ^ key[1])


def _columns(count: int) -> jax.Array:
    return jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)


def _hash(x: jax.Array) -> jax.Array:
    """The last mix of MurmurHash3 (Appleby): every bit of a uint32 depends on every other."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
