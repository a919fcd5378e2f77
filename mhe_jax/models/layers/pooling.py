"""Max-pooling that remembers where each maximum was, in a byte.

XLA differentiates a pooling by looking for the maxima a second time. Its compiler for GPUs writes four arrays of int32
indices for that and adds the gradients to the pixels one by one; with the place of each maximum in hand the gradient is
one pass over the pixels.
"""

import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: jax.Array, size: int, stride: int, padding: int) -> jax.Array:
    """The maxima of windows of `size` x `size` pixels; of equal ones the first gets the gradient, as in PyTorch.

    Args:
      x: [batch, height, width, channels], finite; padded by less than `size`, so that each window has a pixel.

    Returns:
      [batch, (height + 2 padding - size) // stride + 1, ..., channels].
    """
    return nn.max_pool(x, (size, size), (stride, stride), ((padding, padding), (padding, padding)))


def _forward(x, size, stride, padding):
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(x, around, constant_values=-jnp.inf)
    batch, height, width, channels = padded.shape
    views = []
    for row, column in itertools.product(range(size), repeat=2):
        last = (batch, row + height - size + 1, column + width - size + 1, channels)
        views.append(jax.lax.slice(padded, (0, row, column, 0), last, (1, stride, stride, 1)))
    maxima = functools.reduce(jnp.maximum, views)
    place = jnp.zeros(maxima.shape, jnp.uint8)
    for number in reversed(range(size * size)):
        place = jnp.where(views[number] == maxima, jnp.uint8(number), place)
    return maxima, (place, x.shape[1:3])


def _backward(size, stride, padding, kept, d_maxima):
    place, pixels = kept
    zero = jnp.zeros((), jnp.promote_types(d_maxima.dtype, jnp.float32))
    total: Any = 0.0
    for number in range(size * size):
        from_here = jnp.where(place == number, d_maxima.astype(zero.dtype), zero)
        edges = [(0, 0, 0)]
        for offset, windows, length in zip(divmod(number, size), place.shape[1:3], pixels, strict=True):
            before = offset - padding  # of the first window's pixel; negative ones are in the padding
            edges.append((before, length - before - ((windows - 1) * stride + 1), stride - 1))
        total += jax.lax.pad(from_here, zero, [*edges, (0, 0, 0)])
    return (total.astype(d_maxima.dtype),)


max_pool.defvjp(_forward, _backward)
