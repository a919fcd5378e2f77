"""Convolutions of few channels per group, whose gradients are fast on a CPU too."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from mhe_jax.models.layers.convolution import torch_default


class GroupedConv(nn.Module):
    """Convolution in groups with as many outputs as inputs: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C].

    Pads `size // 2` on each side; no bias. Meant for small groups: it costs size² · C / groups passes over the picture.

    Parameters: kernel [size, size, C / groups, C].

    Attributes:
      groups: into how many the channels are divided; C makes it a depthwise convolution.
      size: height and width of the kernel, odd.
      stride: step from window to window.
      kernel_init: initial values.
      dtype: compute dtype.
    """

    groups: int
    size: int = 3
    stride: int = 1
    kernel_init: nn.initializers.Initializer = torch_default
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        members = channels // self.groups
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, members, channels), jnp.float32)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if members == 1:
            return depthwise_conv(x, kernel[:, :, 0], self.stride)
        # With the members of each group turned by 0, 1, .. places, every output has met every member at its own place.
        grouped = x.reshape(*x.shape[:-1], self.groups, members)
        every, total = np.arange(channels), jnp.zeros((), self.dtype)
        for turn in range(members):
            turned = jnp.roll(grouped, -turn, axis=-1).reshape(x.shape)
            total += depthwise_conv(turned, kernel[:, :, (every + turn) % members, every], self.stride)
        return total


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Each channel's own convolution: [B, H, W, C], [S, S, C] -> [B, ceil(H / stride), ceil(W / stride), C].

    A sum of shifted products, in float32 or wider, which XLA fuses into one pass over the pictures on any device; its
    own depthwise convolution takes 7 times as long on a CPU.
    """
    return _shifted_sum(x, kernel, stride)


def _shifted_sum(x, kernel, stride):
    wide = jnp.promote_types(x.dtype, jnp.float32)
    windows = _windows(x.astype(wide), kernel.shape[0], stride)
    weights = kernel.astype(wide).reshape(-1, 1, 1, 1, kernel.shape[-1])
    total = sum(window * weight for window, weight in zip(windows, weights, strict=True))
    return total.astype(x.dtype)


def _forward(x, kernel, stride):
    return _shifted_sum(x, kernel, stride), (x, kernel)


def _backward(stride, saved, gradient):
    x, kernel = saved
    # Spread over the windows' places; what a window saw is then seen from the other side.
    room = [(0, 0, 0), *((0, size - (size - 1) // stride * stride - 1, stride - 1) for size in x.shape[1:3]), (0, 0, 0)]
    spread = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), room)
    of_x = _shifted_sum(spread, kernel[::-1, ::-1], 1)
    correlate = functools.partial(_correlation, size=kernel.shape[0], stride=stride)
    by_picture = functools.partial(_correlation_by_picture, size=kernel.shape[0], stride=stride)
    of_kernel = jax.lax.platform_dependent(x, gradient, cpu=by_picture, default=correlate)
    return of_x, of_kernel.reshape(kernel.shape).astype(kernel.dtype)


depthwise_conv.defvjp(_forward, _backward)


def _correlation(x, gradient, size, stride):
    """The kernel's gradient: [B, H, W, C], [B, H', W', C] -> float32 [S², C]."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    x, gradient = x.astype(wide), gradient.astype(wide)
    return jnp.stack([(window * gradient).reshape(-1, x.shape[-1]).sum(0) for window in _windows(x, size, stride)])


def _correlation_by_picture(x, gradient, size, stride):
    """`_correlation` picture by picture, which fit a CPU's cache: XLA reads them anew for each place of the kernel."""
    shards = jax.sharding.get_abstract_mesh().shape.get("data", 1)
    shards = shards if x.shape[0] % shards == 0 else 1  # each of them has pictures of its own
    x, gradient = (jnp.asarray(array).reshape(shards, -1, *array.shape[1:]) for array in (x, gradient))
    correlate = jax.vmap(lambda x, gradient: _correlation(x[None], gradient[None], size, stride))

    def add(i, total):
        return total + correlate(x[:, i], gradient[:, i])

    start = jnp.zeros((shards, size * size, x.shape[-1]), jnp.promote_types(x.dtype, jnp.float32))
    return jax.lax.fori_loop(0, x.shape[1], add, start).sum(axis=0)


def _windows(x: jax.Array, size: int, stride: int) -> list[jax.Array]:
    """What each place of the kernel sees: size² times [B, ceil(H / stride), ceil(W / stride), C]."""
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    return [x[:, i : i + height : stride, j : j + width : stride] for i in range(size) for j in range(size)]
