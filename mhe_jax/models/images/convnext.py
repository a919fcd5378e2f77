"""ConvNeXt: a convolutional network that is laid out as transformers are."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.depthwise import GroupedConv
from mhe_jax.models.layers.dropout import drop_branch
from mhe_jax.models.layers.transformer import INIT, Patches, require_shares

_EPSILON = 1e-6


class ConvNeXt(nn.Module):
    """ConvNeXt: [B, H, W, C] -> [B, last width], the LayerNorm of the mean over all places.

    A stem of 4×4 patches, four stages of blocks, and between them 2×2 convolutions of stride 2; LayerNorm, computed in
    float32, in the place of BatchNorm. Source: Liu et al., CVPR 2022 (arXiv 2201.03545); parameters are those of timm's
    `convnext_*` and torchvision's `convnext_*`. The defaults are ConvNeXt-T.

    Attributes:
      depths: blocks in each stage.
      widths: channels in each stage; the last are the features.
      drop_path: share of the examples for which training leaves out the branch of the last block; less before it.
      layer_scale: initial value of the factor of each branch's channels.
      remat: whether the gradient computes each block anew instead of keeping its activations: slower, in less memory.
      dtype: compute dtype; parameters are float32.

    Raises:
      ValueError: for other depths than widths, a share outside 0 .. 1, or pictures too small for the strides.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    drop_path: float = 0.1
    layer_scale: float = 1e-6
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    wide_params: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        super().__post_init__()
        if len(self.depths) != len(self.widths) or not self.widths:
            raise ValueError(
                f"config.backbone.depths is {self.depths} and config.backbone.widths is {self.widths}: each stage has "
                "one of both"
            )
        require_shares(self, "drop_path")

    @property
    def features_dim(self) -> int:
        return self.widths[-1]

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        stride = 4 * 2 ** (len(self.widths) - 1)
        if min(images.shape[1:3]) < stride:
            height, width = images.shape[1:3]
            raise ValueError(f"pictures are {height}x{width}, but 'convnext' with these stages needs {stride}x{stride}")
        x = _patches(4, self.widths[0], self.dtype, "stem")(images)
        x = _norm("stem_norm", x, self.dtype)
        make_block = nn.remat(ConvNeXtBlock, static_argnums=(2,)) if self.remat else ConvNeXtBlock
        last, number = max(sum(self.depths) - 1, 1), 0
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), start=1):
            if stage > 1:
                x = _norm(f"stage{stage}_down_norm", x, self.dtype)
                x = _patches(2, width, self.dtype, f"stage{stage}_down")(x)
            for index in range(depth):
                drop_path = self.drop_path * number / last
                x = make_block(drop_path, self.layer_scale, self.dtype, name=f"stage{stage}_{index}")(x, train)
                number += 1
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return _norm("norm", jnp.mean(x.astype(wide), axis=(1, 2)), self.dtype)


class ConvNeXtBlock(nn.Module):
    """7×7 depthwise convolution, LayerNorm and a perceptron four times as wide, added: [B, H, W, D] -> [B, H, W, D]."""

    drop_path: float
    layer_scale: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1]
        y = GroupedConv(width, size=7, kernel_init=INIT, dtype=self.dtype, name="depthwise")(x)
        bias = self.param("depthwise_bias", nn.initializers.zeros, (width,), jnp.float32)
        y += bias.astype(self.dtype)[None, None, None, :]
        y = _norm("norm", y, self.dtype)
        y = nn.gelu(nn.Dense(4 * width, dtype=self.dtype, kernel_init=INIT, name="up")(y), approximate=False)
        y = nn.Dense(width, dtype=self.dtype, kernel_init=INIT, name="down")(y)
        scale = self.param("scale", nn.initializers.constant(self.layer_scale), (width,), jnp.float32)
        return x + drop_branch(self, y * scale.astype(self.dtype)[None, None, None, :], self.drop_path, train)


def _patches(size: int, features: int, dtype: DTypeLike, name: str) -> Patches:
    return Patches(size, features, INIT, nn.initializers.zeros, dtype, name=name)


def _norm(name: str, x: jax.Array, dtype: DTypeLike) -> jax.Array:
    wide = jnp.promote_types(dtype, jnp.float32)
    return nn.LayerNorm(_EPSILON, dtype=wide, name=name)(x).astype(dtype)
