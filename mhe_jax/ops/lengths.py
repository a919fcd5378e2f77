"""Lengths of vectors, and vectors brought to length 1, with gradients that are finite at vectors of zeros."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

MIN_NORM = 1e-12  # vectors that are shorter count as zero


def safe_normalize(x: Float[Array, "*shape"], axis: int = -1) -> tuple[Float32[Array, "*shape"], Float32[Array, "..."]]:
    """Vectors along `axis` scaled to length 1, and their lengths: x [..., D] -> float32 [..., D], [...].

    A vector shorter than MIN_NORM becomes zero, with length zero and no gradient; one that has NaN stays NaN.
    """
    x = x.astype(jnp.float32)
    # Squares overflow from 1e19 on. A power of two changes no digit.
    shrink = jnp.where(jnp.abs(x).max(axis=axis, keepdims=True) > 2.0**60, 2.0**-70, 1.0)
    x = x * shrink
    squares = jnp.square(x).sum(axis=axis, keepdims=True)
    some = ~(squares < MIN_NORM**2)  # NaN is no short vector
    # The square root is taken of a harmless number where its gradient would be infinite.
    norm = jnp.sqrt(jnp.where(some, squares, 1.0))
    return jnp.where(some, x / norm, 0.0), (jnp.where(some, norm, 0.0) / shrink).squeeze(axis)


def inverse_lengths(x: Float[Array, "*rows dim"]) -> Float32[Array, "*rows"]:
    """One over the length of each vector [..., D], 0 for those that `safe_normalize` makes zero."""
    _, lengths = safe_normalize(x)
    return jnp.where(lengths == 0, 0.0, 1 / jnp.where(lengths == 0, 1.0, lengths))
