"""MobileFaceNet: face embeddings at two million parameters."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.batch_norm import BatchNorm
from mhe_jax.models.layers.convolution import PointwiseConv, PReLU, kaiming_normal_fan_out, product, unfold
from mhe_jax.models.layers.depthwise import GroupedConv

# Of each stage: output channels per unit of `scale`, width of its first block, residual blocks and their width.
STAGES = ((64, 128, 4, 128), (128, 256, 6, 256), (128, 512, 2, 256))
LAST_WIDTH = 512  # channels before the embedding


class MobileFaceNet(nn.Module):
    """MobileFaceNet as insightface has it: [B, H, W, C] -> float32 [B, features_dim], not normalised.

    A 3×3 stem of stride 2 and a grouped 3×3; three stages of inverted residual blocks, each begun with stride 2; then
    one weight per place and channel, a dense map and BatchNorm. Pictures of any size: the weights per place follow it.
    What comes behind the stages is computed in float32. Source: arXiv 1804.07573; insightface's arcface_torch, 'mbf'.

    Attributes:
      features_dim: width of the embedding.
      scale: width of the channels between blocks: 2 is insightface's 128 and 256, 1 the paper's 64 and 128.
      bn_groups: parts of the batch with BatchNorm statistics of their own; see `BatchNorm`.
      dtype: compute dtype; parameters and statistics are float32.
    """

    features_dim: int = 512
    scale: int = 2
    bn_groups: int = 1
    dtype: DTypeLike = jnp.float32

    wide_params: ClassVar[tuple[str, ...]] = ("last", "places", "embedding")

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        common = (self.bn_groups, self.dtype)
        x = UnfoldedStem(64 * self.scale, *common, name="stem")(images.astype(self.dtype), train)
        x = GroupedBlock(64, 1, *common, name="stem_grouped")(x, train)
        for stage, (channels, first_width, count, width) in enumerate(STAGES, start=1):
            outputs = channels * self.scale
            x = InvertedBlock(outputs, first_width, 2, *common, name=f"stage{stage}_down")(x, train)
            for index in range(count):
                x += InvertedBlock(outputs, width, 1, *common, name=f"stage{stage}_{index}")(x, train)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        x = PointwiseBlock(LAST_WIDTH, True, self.bn_groups, wide, name="last")(x.astype(wide), train)
        x = BatchNorm(self.bn_groups, dtype=wide, name="places_bn")(WeightedPlaces(name="places")(x), train)
        x = nn.Dense(
            self.features_dim, use_bias=False, dtype=wide, kernel_init=kaiming_normal_fan_out, name="embedding"
        )(x)
        return BatchNorm(self.bn_groups, dtype=wide, name="embedding_bn")(x, train)


class InvertedBlock(nn.Module):
    """1×1 to `width`, depthwise 3×3, 1×1 to `features`: [B, H, W, C] -> [B, H / stride, W / stride, features]."""

    features: int
    width: int
    stride: int
    bn_groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        common = (self.bn_groups, self.dtype)
        x = PointwiseBlock(self.width, True, *common, name="expand")(x, train)
        x = GroupedBlock(self.width, self.stride, *common, name="depthwise")(x, train)
        return PointwiseBlock(self.features, False, *common, name="project")(x, train)


class UnfoldedStem(nn.Module):
    """3×3 convolution of stride 2 as a product of unfolded windows, BatchNorm and PReLU."""

    features: int
    bn_groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", kaiming_normal_fan_out, shape, jnp.float32).astype(self.dtype)
        x = product(unfold(x, kernel=3, stride=2), kernel.reshape(-1, self.features))
        return PReLU(name="prelu")(BatchNorm(self.bn_groups, dtype=self.dtype, name="bn")(x, train))


class GroupedBlock(nn.Module):
    """3×3 convolution in groups, BatchNorm and PReLU."""

    groups: int
    stride: int
    bn_groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = GroupedConv(self.groups, 3, self.stride, kaiming_normal_fan_out, self.dtype, name="conv")(x)
        return PReLU(name="prelu")(BatchNorm(self.bn_groups, dtype=self.dtype, name="bn")(x, train))


class PointwiseBlock(nn.Module):
    """1×1 convolution and BatchNorm, and PReLU if it is `active`."""

    features: int
    active: bool
    bn_groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = PointwiseConv(self.features, 1, kaiming_normal_fan_out, self.dtype, name="conv")(x)
        x = BatchNorm(self.bn_groups, dtype=self.dtype, name="bn")(x, train)
        return PReLU(name="prelu")(x) if self.active else x


class WeightedPlaces(nn.Module):
    """Sum over places of the activations times a weight per place and channel: [B, H, W, C] -> [B, C].

    A depthwise convolution whose kernel is as large as the picture. Parameters: kernel [H, W, 1, C].
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, height, width, channels = x.shape
        kernel = self.param("kernel", kaiming_normal_fan_out, (height, width, 1, channels), jnp.float32)
        return (x * kernel.reshape(1, height, width, channels).astype(x.dtype)).sum(axis=(1, 2))
