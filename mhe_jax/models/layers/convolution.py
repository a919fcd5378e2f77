"""Convolutions with PyTorch's padding, PyTorch's initial values, and PReLU."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

# What torch.nn.Conv2d and torch.nn.Linear draw their weights from, kaiming_uniform(a=√5): uniform in ±1/√fan_in.
torch_default = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# kaiming_normal(mode='fan_out', nonlinearity='relu'), as torchvision's ResNets use.
kaiming_normal_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform in -bound .. bound: with 1/√fan_in, what torch's layers draw their biases from."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def conv(
    features: int,
    kernel: int,
    stride: int = 1,
    init: nn.initializers.Initializer = torch_default,
    dtype: DTypeLike = jnp.float32,
    name: str | None = None,
) -> nn.Conv:
    """Square convolution without bias, [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features].

    Pads `kernel // 2` on each side like torch's `padding=`; 'SAME' would pad one side less at stride 2.
    """
    padding = ((kernel // 2, kernel // 2),) * 2
    return nn.Conv(
        features, (kernel, kernel), (stride, stride), padding, use_bias=False, dtype=dtype, kernel_init=init, name=name
    )


def unfold(x: jax.Array, kernel: int, stride: int) -> jax.Array:
    """The windows of a convolution padded by `kernel // 2`: [B, H, W, C] -> [B, H', W', kernel² · C], in HWC order."""
    x = jnp.pad(x, ((0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2, (0, 0)))
    height, width = x.shape[1] - kernel + 1, x.shape[2] - kernel + 1  # where windows may start
    windows = [x[:, i : i + height : stride, j : j + width : stride] for i in range(kernel) for j in range(kernel)]
    return jnp.concatenate(windows, axis=-1)


class PointwiseConv(nn.Module):
    """1×1 convolution without bias, [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features].

    A matrix product: XLA's CPU convolution takes several times as long to differentiate.

    Parameters: kernel [1, 1, C, features].
    """

    features: int
    stride: int = 1
    kernel_init: nn.initializers.Initializer = torch_default
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (1, 1, x.shape[-1], self.features), jnp.float32)
        x = x[:, :: self.stride, :: self.stride].astype(self.dtype)
        return product(x, kernel[0, 0].astype(self.dtype))


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x @ kernel, [..., C] and [C, D] -> [..., D], with a gradient that a CPU computes faster than JAX's own."""
    return x @ kernel


def _product_forward(x, kernel):
    return x @ kernel, (x, kernel)


def _product_backward(saved, gradient):
    x, kernel = saved
    # Else XLA's CPU compiler fuses what made the gradient with its transposition, which then crawls through memory.
    gradient = jax.lax.optimization_barrier(gradient)
    rows = gradient.reshape(-1, gradient.shape[-1])
    return gradient @ kernel.T, x.reshape(-1, x.shape[-1]).T @ rows


product.defvjp(_product_forward, _product_backward)


class PReLU(nn.Module):
    """x where positive, else x times the channel's slope: [..., C] -> [..., C]. Parameters: slope [C], from 0.25."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],), jnp.float32).astype(x.dtype)
        return jnp.where(x > 0, x, x * slope.reshape((1,) * (x.ndim - 1) + slope.shape))
