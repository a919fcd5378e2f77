"""IResNet: the residual network of face recognition."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.batch_norm import BatchNorm
from mhe_jax.models.layers.convolution import PointwiseConv, PReLU, conv, symmetric_uniform, torch_default
from mhe_jax.models.layers.dropout import dropout

# depth -> blocks in each of the four stages
STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}

_INIT = nn.initializers.normal(0.1)


class IResNet(nn.Module):
    """Insightface's improved ResNets r18 .. r200: [B, H, W, C] -> float32 [B, features_dim], not normalised.

    A 3×3 stem, four stages of widths 64-128-256-512 that each begin with stride 2, a dense map of all places and
    BatchNorm whose scale stays 1. Pictures of any size: the dense map follows it. It and the BatchNorm are computed in
    float32. Source: arXiv 2004.04989; insightface's arcface_torch, 'r18' .. 'r200'.

    Attributes:
      depth: 18, 34, 50, 100 or 200.
      features_dim: width of the embedding.
      dropout: share of the dense map's inputs that training drops.
      remat: whether the gradient computes each block anew instead of keeping its activations: slower, in less memory.
      bn_groups: parts of the batch with BatchNorm statistics of their own; see `BatchNorm`.
      dtype: compute dtype; parameters and statistics are float32.

    Raises:
      ValueError: for another depth, or a dropout outside 0 .. 1.
    """

    depth: int
    features_dim: int = 512
    dropout: float = 0.0
    remat: bool = False
    bn_groups: int = 1
    dtype: DTypeLike = jnp.float32

    wide_params: ClassVar[tuple[str, ...]] = ("fc",)

    def __post_init__(self):
        super().__post_init__()
        if self.depth not in STAGES:
            raise ValueError(f"config.backbone.depth is {self.depth}; it must be one of {', '.join(map(str, STAGES))}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"config.backbone.dropout is {self.dropout}; it must be in [0, 1)")

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = conv(64, 3, init=_INIT, dtype=self.dtype, name="conv1")(images.astype(self.dtype))
        x = PReLU(name="prelu")(BatchNorm(self.bn_groups, dtype=self.dtype, name="bn1")(x, train))
        make_block = nn.remat(IResNetBlock, static_argnums=(2,)) if self.remat else IResNetBlock
        for stage, count in enumerate(STAGES[self.depth], start=1):
            for index in range(count):
                width, stride = 64 * 2 ** (stage - 1), 1 if index else 2
                block = make_block(width, stride, self.bn_groups, self.dtype, name=f"layer{stage}_{index}")
                x = block(x, train)
        x = BatchNorm(self.bn_groups, dtype=self.dtype, name="bn2")(x, train)
        x = dropout(self, x, self.dropout, train)
        x = DenseOfPlaces(self.features_dim, name="fc")(x.astype(jnp.promote_types(self.dtype, jnp.float32)))
        return BatchNorm(self.bn_groups, dtype=x.dtype, use_scale=False, name="features")(x, train)


class IResNetBlock(nn.Module):
    """BatchNorm, 3×3, BatchNorm, PReLU, 3×3, BatchNorm: [B, H, W, C] -> [B, H / stride, W / stride, width].

    The second convolution has the stride. The shortcut is a 1×1 convolution and BatchNorm where the block begins a
    stage, else the identity; nothing follows the sum.
    """

    width: int
    stride: int
    bn_groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = lambda name, y: BatchNorm(self.bn_groups, dtype=self.dtype, name=name)(y, train)
        y = conv(self.width, 3, 1, _INIT, self.dtype, name="conv1")(norm("bn1", x))
        y = PReLU(name="prelu")(norm("bn2", y))
        y = norm("bn3", conv(self.width, 3, self.stride, _INIT, self.dtype, name="conv2")(y))
        if self.stride > 1:
            x = norm("shortcut_bn", PointwiseConv(self.width, self.stride, _INIT, self.dtype, name="shortcut_conv")(x))
        return x + y


class DenseOfPlaces(nn.Module):
    """Dense map of the activations of all places: [B, H, W, C] -> [B, features].

    Parameters: kernel [H, W, C, features], bias [features]. PyTorch counts its inputs in the order C, H, W; here the
    kernel is laid out like the activations, so that neither has to be transposed in a step.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", torch_default, (*x.shape[1:], self.features), jnp.float32)
        bias = self.param("bias", symmetric_uniform(kernel[..., 0].size ** -0.5), (self.features,), jnp.float32)
        x = x.reshape(x.shape[0], -1)
        return x @ kernel.reshape(-1, self.features).astype(x.dtype) + bias.astype(x.dtype)[None, :]
