"""Functions of angles given by their cosines, whose gradients are finite everywhere, at +-1 too."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32


def clamp(x: Float[Array, "*shape"], low: float, high: float) -> Float[Array, "*shape"]:
    """x moved into [low, high]; the gradient is 1 from low to high, ends included, and 0 outside, as in torch.clamp."""
    # jnp.clip halves the gradient at its ends.
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


def clamp_cosine(cosine: Float[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """Cosines that rounding may have moved out of [-1, 1], clamped, in float32."""
    return clamp(cosine.astype(jnp.float32), -1.0, 1.0)


def sine(cosine: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The sine of the angle in [0, pi] with this cosine in [-1, 1]; its gradient at +-1, really infinite, is 0."""
    square = (1 - cosine) * (1 + cosine)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def arccos(cosine: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The angle in [0, pi] with this cosine in [-1, 1]; its gradient at +-1, really infinite, is 0."""
    return jnp.arctan2(sine(cosine), cosine)


def cosine_sum(cosine: Float[Array, "*shape"], angle: Float[Array, "*#shape"] | float) -> Float[Array, "*shape"]:
    """cos(arccos(cosine) + angle), by the addition theorem: cosine in [-1, 1], angle in radians."""
    return cosine * jnp.cos(angle) - sine(cosine) * jnp.sin(angle)
