"""What vision transformers are made of: patches and blocks."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.attention import self_attention
from mhe_jax.models.layers.convolution import product, symmetric_uniform, torch_default
from mhe_jax.models.layers.dropout import drop_branch, dropout

INIT = nn.initializers.normal(0.02)


class Patches(nn.Module):
    """A dense map of each patch, [B, H, W, C] -> [B, H // size, W // size, features]: a convolution of stride `size`.

    What is left over at the right and lower edge is not seen.

    Parameters: kernel [size, size, C, features], bias [features].

    Raises:
      ValueError: for a picture smaller than a patch.
    """

    size: int
    features: int
    kernel_init: nn.initializers.Initializer = torch_default
    bias_init: nn.initializers.Initializer | None = None  # None: torch's, uniform in ±1/√fan_in
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        size = self.size
        batch, height, width, channels = images.shape
        rows, columns = height // size, width // size
        if not rows * columns:
            raise ValueError(f"a picture of {height}x{width} has no patch of config.backbone.patch_size={size}")
        kernel = self.param("kernel", self.kernel_init, (size, size, channels, self.features), jnp.float32)
        bias_init = self.bias_init or symmetric_uniform(kernel[..., 0].size ** -0.5)
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        x = images[:, : rows * size, : columns * size].astype(self.dtype)
        x = x.reshape(batch, rows, size, columns, size, channels).transpose(0, 1, 3, 2, 4, 5)
        x = product(x.reshape(batch, rows, columns, -1), kernel.reshape(-1, self.features).astype(self.dtype))
        return x + bias.astype(self.dtype)[None, None, None, :]


class Block(nn.Module):
    """Attention and a two-layer perceptron four times as wide, each added to what it gets: [B, T, D] -> [B, T, D].

    Both see it after a LayerNorm (pre-norm), which is computed in float32, as the softmax is.

    Attributes:
      num_heads: of the attention; they divide D.
      activation: between the perceptron's layers.
      epsilon: of the LayerNorms.
      qkv_bias: whether queries, keys and values have a bias.
      dropout: share of the activations behind attention and each dense map that training drops.
      drop_path: share of the examples for which training leaves out a branch.
      dtype: compute dtype.
    """

    num_heads: int
    activation: Callable[[jax.Array], jax.Array]
    epsilon: float
    qkv_bias: bool
    dropout: float
    drop_path: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x + drop_branch(self, self._attention(self._norm("norm1", x), train), self.drop_path, train)
        return x + drop_branch(self, self._perceptron(self._norm("norm2", x), train), self.drop_path, train)

    def _attention(self, x: jax.Array, train: bool) -> jax.Array:
        batch, count, width = x.shape
        qkv = self._dense("qkv", 3 * width, x, use_bias=self.qkv_bias)
        qkv = qkv.reshape(batch, count, 3, self.num_heads, width // self.num_heads)
        mixed = self_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return dropout(self, self._dense("proj", width, mixed.reshape(x.shape)), self.dropout, train)

    def _perceptron(self, x: jax.Array, train: bool) -> jax.Array:
        y = dropout(self, self.activation(self._dense("up", 4 * x.shape[-1], x)), self.dropout, train)
        return dropout(self, self._dense("down", x.shape[-1], y), self.dropout, train)

    def _norm(self, name: str, x: jax.Array) -> jax.Array:
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return nn.LayerNorm(self.epsilon, dtype=wide, name=name)(x).astype(self.dtype)

    def _dense(self, name: str, features: int, x: jax.Array, use_bias: bool = True) -> jax.Array:
        return nn.Dense(features, use_bias, dtype=self.dtype, kernel_init=INIT, name=name)(x)


def require_heads(width: int, num_heads: int) -> None:
    """Raises ValueError unless the heads of `config.backbone` divide the width."""
    if num_heads < 1 or width % num_heads:
        raise ValueError(f"config.backbone.num_heads is {num_heads}; it must divide config.backbone.width={width}")


def require_shares(module: nn.Module, *names: str) -> None:
    """Raises ValueError unless these fields of `config.backbone` are in [0, 1)."""
    for name in names:
        if not 0 <= getattr(module, name) < 1:
            raise ValueError(f"config.backbone.{name} is {getattr(module, name)}; it must be in [0, 1)")
