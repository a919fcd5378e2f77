"""Vision transformer for faces."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.attention import self_attention
from mhe_jax.models.layers.batch_norm import BatchNorm
from mhe_jax.models.layers.convolution import product, symmetric_uniform, torch_default
from mhe_jax.models.layers.dropout import dropout, is_active

_INIT = nn.initializers.normal(0.02)
_LAYER_NORM_EPSILON, _BATCH_NORM_EPSILON = 1e-5, 2e-5


class FaceViT(nn.Module):
    """Insightface's vision transformers: [B, H, W, C] -> float32 [B, features_dim], not normalised.

    Patches side by side, without what is left over at the right and lower edge; learned positions; pre-norm blocks with
    ReLU6; then two dense maps of all tokens, each with BatchNorm. Patches may be masked while training: the blocks see
    the others only, and a learned vector stands for them afterwards. Pictures of any size: the parameters follow it.
    LayerNorm, softmax and what comes behind the blocks are computed in float32. Source: arXiv 2010.11929;
    insightface's arcface_torch, 'vit_t' (width 256, depth 12), 'vit_s' (512, 12), 'vit_b' (512, 24), 'vit_l' (768, 24).

    Attributes:
      features_dim: width of the embedding.
      patch_size: height and width of a patch.
      width: of the tokens.
      depth: number of blocks.
      num_heads: of the attention.
      dropout: share of the activations behind positions, attention and each dense map that training drops.
      drop_path: share of the examples for which training leaves out a branch of the last block; less before it.
      mask_ratio: share of the patches that training masks.
      remat: whether the gradient computes each block anew instead of keeping its activations: slower, in less memory.
      bn_groups: parts of the batch with BatchNorm statistics of their own; see `BatchNorm`.
      dtype: compute dtype; parameters and statistics are float32.

    Raises:
      ValueError: if the heads do not divide the width, or for a share outside 0 .. 1 or a picture smaller than a patch.
    """

    features_dim: int = 512
    patch_size: int = 9
    width: int = 512
    depth: int = 12
    num_heads: int = 8
    dropout: float = 0.0
    drop_path: float = 0.1
    mask_ratio: float = 0.1
    remat: bool = False
    bn_groups: int = 1
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.num_heads:
            raise ValueError(
                f"config.backbone.num_heads is {self.num_heads}; it must divide config.backbone.width={self.width}"
            )
        for name in ("dropout", "drop_path", "mask_ratio"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"config.backbone.{name} is {getattr(self, name)}; it must be in [0, 1)")

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = PatchEmbedding(self.patch_size, self.width, self.dtype, name="patch")(images)
        batch, count = x.shape[:2]
        positions = self.param("positions", _INIT, (1, count, self.width), jnp.float32)
        x = dropout(self, x + positions.astype(self.dtype), self.dropout, train)
        mask_token = self.param("mask_token", _INIT, (1, 1, self.width), jnp.float32)
        visible = None
        if is_active(self.mask_ratio, train):
            noise = jax.random.uniform(self.make_rng("dropout"), (batch, count))
            visible = jnp.argsort(noise, axis=1)[:, : int(count * (1 - self.mask_ratio)), None]  # [B, K, 1]
            x = jnp.take_along_axis(x, visible, axis=1)

        make_block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for index in range(self.depth):
            drop_path = self.drop_path * index / max(self.depth - 1, 1)
            block = make_block(self.num_heads, self.dropout, drop_path, self.dtype, name=f"block_{index}")
            x = block(x, train)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        x = nn.LayerNorm(_LAYER_NORM_EPSILON, dtype=wide, name="norm")(x)
        if visible is not None:
            everywhere = jnp.broadcast_to(mask_token.astype(wide), (batch, count, self.width))
            x = everywhere.at[jnp.arange(batch)[:, None], visible[:, :, 0]].set(x)

        x = x.reshape(batch, -1)
        for name, features in (("features_1", self.width), ("features_2", self.features_dim)):
            x = nn.Dense(features, use_bias=False, dtype=wide, kernel_init=_INIT, name=name)(x)
            x = BatchNorm(self.bn_groups, epsilon=_BATCH_NORM_EPSILON, dtype=wide, name=f"{name}_bn")(x, train)
        return x


class PatchEmbedding(nn.Module):
    """Dense map of each patch: [B, H, W, C] -> [B, patches, width], the patches row by row.

    Parameters: kernel [size, size, C, width], bias [width].
    """

    size: int
    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        size = self.size
        batch, height, width, channels = images.shape
        rows, columns = height // size, width // size
        if not rows * columns:
            raise ValueError(f"a picture of {height}x{width} has no patch of config.backbone.patch_size={size}")
        kernel = self.param("kernel", torch_default, (size, size, channels, self.width), jnp.float32)
        bias = self.param("bias", symmetric_uniform(kernel[..., 0].size ** -0.5), (self.width,), jnp.float32)
        x = images[:, : rows * size, : columns * size].astype(self.dtype)
        x = x.reshape(batch, rows, size, columns, size, channels).transpose(0, 1, 3, 2, 4, 5)
        x = product(x.reshape(batch, rows * columns, -1), kernel.reshape(-1, self.width).astype(self.dtype))
        return x + bias.astype(self.dtype)[None, None, :]


class Block(nn.Module):
    """Attention and a two-layer perceptron four times as wide, each added to what it gets: [B, T, D] -> [B, T, D]."""

    num_heads: int
    dropout: float
    drop_path: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x + self._drop_path(self._attention(self._norm("norm1", x), train), train)
        return x + self._drop_path(self._perceptron(self._norm("norm2", x), train), train)

    def _attention(self, x: jax.Array, train: bool) -> jax.Array:
        batch, count, width = x.shape
        qkv = self._dense("qkv", 3 * width, x, use_bias=False)
        qkv = qkv.reshape(batch, count, 3, self.num_heads, width // self.num_heads)
        mixed = self_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return dropout(self, self._dense("proj", width, mixed.reshape(x.shape)), self.dropout, train)

    def _perceptron(self, x: jax.Array, train: bool) -> jax.Array:
        y = dropout(self, nn.relu6(self._dense("up", 4 * x.shape[-1], x)), self.dropout, train)
        return dropout(self, self._dense("down", x.shape[-1], y), self.dropout, train)

    def _norm(self, name: str, x: jax.Array) -> jax.Array:
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return nn.LayerNorm(_LAYER_NORM_EPSILON, dtype=wide, name=name)(x).astype(self.dtype)

    def _dense(self, name: str, features: int, x: jax.Array, use_bias: bool = True) -> jax.Array:
        return nn.Dense(features, use_bias, dtype=self.dtype, kernel_init=_INIT, name=name)(x)

    def _drop_path(self, branch: jax.Array, train: bool) -> jax.Array:
        """Leaves out the branch of some examples, and scales that of the others ("stochastic depth")."""
        kept = dropout(self, jnp.ones((branch.shape[0], 1, 1), branch.dtype), self.drop_path, train)
        return branch * kept
