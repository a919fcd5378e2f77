"""Max-pooling that remembers where each maximum was, in a byte.

XLA differentiates a pooling by looking for the maxima a second time. TPUs have a way to do that; elsewhere it is slow:
for GPUs XLA writes four arrays of int32 indices and adds the gradients to the pixels one by one. With the place of each
maximum in hand the gradient is one pass over the pixels.
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

    It has no forward-mode derivative.

    Args:
      x: [batch, height, width, channels], finite; padded by less than `size`, so that each window has a pixel.
      size: at most 16.

    Returns:
      [batch, (height + 2 padding - size) // stride + 1, ..., channels].
    """
    return _pool(x, size, stride, padding)


def _pool(x, size, stride, padding):
    return nn.max_pool(x, (size, size), (stride, stride), ((padding, padding), (padding, padding)))


def _forward(x, size, stride, padding):
    def alone(x):
        maxima = _pool(x, size, stride, padding)
        return maxima, jnp.zeros_like(maxima, jnp.uint8)

    maxima, place = jax.lax.platform_dependent(
        x, tpu=alone, default=functools.partial(_with_places, size=size, stride=stride, padding=padding)
    )
    return maxima, (x, place)  # of which the gradient uses one


def _backward(size, stride, padding, kept, d_maxima):
    def again(x, place, d_maxima):
        del place
        return jax.vjp(lambda x: _pool(x, size, stride, padding), x)[1](d_maxima)

    spread = functools.partial(_to_places, size=size, stride=stride, padding=padding)
    return jax.lax.platform_dependent(*kept, d_maxima, tpu=again, default=spread)


max_pool.defvjp(_forward, _backward)


def _with_places(x, size, stride, padding):
    """The maxima, and of each the number of its pixel in the window, row by row."""
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(x, around, constant_values=-jnp.inf)
    batch, height, width, channels = padded.shape
    views = []
    for row, column in itertools.product(range(size), repeat=2):
        last = (batch, row + height - size + 1, column + width - size + 1, channels)
        views.append(jax.lax.slice(padded, (0, row, column, 0), last, (1, stride, stride, 1)))
    maxima = functools.reduce(jnp.maximum, views)
    place = jnp.zeros_like(maxima, jnp.uint8)
    for number in reversed(range(size * size)):
        place = jnp.where(views[number] == maxima, jnp.uint8(number), place)
    return maxima, place


def _to_places(x, place, d_maxima, size, stride, padding):
    """The gradient of `x`, of which the shape alone is read."""
    zero = jnp.zeros((), jnp.promote_types(d_maxima.dtype, jnp.float32))
    total: Any = 0.0
    for number in range(size * size):
        from_here = jnp.where(place == number, d_maxima.astype(zero.dtype), zero)
        edges = [(0, 0, 0)]
        for offset, windows, length in zip(divmod(number, size), place.shape[1:3], x.shape[1:3], strict=True):
            before = offset - padding  # of the first window's pixel; negative ones are in the padding
            edges.append((before, length - before - ((windows - 1) * stride + 1), stride - 1))
        total += jax.lax.pad(from_here, zero, [*edges, (0, 0, 0)])
    return (total.astype(d_maxima.dtype),)
