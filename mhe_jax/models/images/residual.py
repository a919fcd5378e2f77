"""What the CIFAR and the ImageNet ResNet have in common: all but the stem and the initial values."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.batch_norm import BatchNorm
from mhe_jax.models.layers.convolution import conv
from mhe_jax.models.layers.dropout import drop_branch
from mhe_jax.models.layers.transformer import require_shares

# depth -> (blocks in each of the four stages, whether they are bottlenecks)
STAGES = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
EXPANSION = 4  # output channels of a bottleneck, relative to its 3×3 convolution


class ResidualBlock(nn.Module):
    """Post-activation block: [B, H, W, C] -> [B, H / stride, W / stride, width (× 4 for a bottleneck)].

    Basic: 3×3, 3×3. Bottleneck: 1×1, 3×3, 1×1, with the stride on the 3×3 ("v1.5"). The shortcut is a 1×1 convolution
    and BatchNorm where the shape changes, else the identity.
    """

    width: int
    stride: int
    bottleneck: bool
    bn_groups: int
    kernel_init: nn.initializers.Initializer
    drop_path: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers: tuple[tuple[int, int, int], ...]  # channels, kernel, stride
        if self.bottleneck:
            layers = ((self.width, 1, 1), (self.width, 3, self.stride), (self.width * EXPANSION, 1, 1))
        else:
            layers = ((self.width, 3, self.stride), (self.width, 3, 1))
        y = x
        for i, (features, kernel, stride) in enumerate(layers, start=1):
            y = conv(features, kernel, stride, self.kernel_init, self.dtype, name=f"conv{i}")(y)
            y = BatchNorm(self.bn_groups, dtype=self.dtype, name=f"bn{i}")(y, train)
            if i < len(layers):
                y = nn.relu(y)
        if x.shape != y.shape:
            x = conv(y.shape[-1], 1, self.stride, self.kernel_init, self.dtype, name="shortcut_conv")(x)
            x = BatchNorm(self.bn_groups, dtype=self.dtype, name="shortcut_bn")(x, train)
        return nn.relu(x + drop_branch(self, y, self.drop_path, train))


class ResidualNetwork(nn.Module):
    """Stem, four stages of widths 64-128-256-512 and strides 1-2-2-2, average: [B, H, W, C] -> [B, features_dim].

    Attributes:
      depth: 18, 34, 50, 101 or 152.
      bn_groups: parts of the batch with BatchNorm statistics of their own; see `BatchNorm`.
      drop_path: share of the examples for which training leaves out the branch of the last block; less before it.
      dtype: compute dtype; parameters and statistics are float32.

    Raises:
      ValueError: for another depth.
    """

    depth: int
    bn_groups: int = 1
    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32

    kernel_init: ClassVar[nn.initializers.Initializer]
    wide_params: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        super().__post_init__()
        require_shares(self, "drop_path")
        if self.depth not in STAGES:
            raise ValueError(f"config.backbone.depth is {self.depth}; it must be one of {', '.join(map(str, STAGES))}")

    @property
    def features_dim(self) -> int:
        _, bottleneck = STAGES[self.depth]
        return 512 * (EXPANSION if bottleneck else 1)

    def stem(self, x: jax.Array, train: bool) -> jax.Array:
        """What the image passes through before the first stage: [B, H, W, C] -> [B, H', W', 64]."""
        raise NotImplementedError

    def stem_conv(self, x: jax.Array, kernel: int, stride: int, train: bool) -> jax.Array:
        """Convolution to 64 channels, BatchNorm and ReLU: called once, by `stem`."""
        x = conv(64, kernel, stride, self.kernel_init, self.dtype, name="conv1")(x)
        return nn.relu(BatchNorm(self.bn_groups, dtype=self.dtype, name="bn1")(x, train))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = self.stem(images.astype(self.dtype), train)
        blocks, bottleneck = STAGES[self.depth]
        number, last = 0, sum(blocks) - 1
        for stage, count in enumerate(blocks, start=1):
            for index in range(count):
                stride = 2 if stage > 1 and index == 0 else 1
                width, drop_path = 64 * 2 ** (stage - 1), self.drop_path * number / last
                block = (width, stride, bottleneck, self.bn_groups, self.kernel_init, drop_path, self.dtype)
                x = ResidualBlock(*block, name=f"layer{stage}_{index}")(x, train)
                number += 1
        return jnp.mean(x, axis=(1, 2))
