"""A small convolutional network for small pictures, made to train fast on a CPU."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.batch_norm import BatchNorm
from mhe_jax.models.layers.convolution import torch_default, unfold


class ConvNet(nn.Module):
    """3×3 convolutions of stride 2 and a dense layer, with BatchNorm and ReLU: [B, H, W, C] -> [B, features_dim].

    The convolutions are matrix products of unfolded windows: XLA's CPU convolution is slower, and the gradient of its
    kernel slower still by more than an order of magnitude inside a loop.

    Attributes:
      features_dim: width of the features.
      widths: channels after each convolution.
      activate_features: whether the features pass through a ReLU; embeddings, compared by angle, should not.
      bn_groups: parts of the batch with BatchNorm statistics of their own; see `BatchNorm`.
      dtype: compute dtype; parameters and statistics are float32.
    """

    features_dim: int = 256
    widths: tuple[int, ...] = (32, 64, 128)
    activate_features: bool = True
    bn_groups: int = 1
    dtype: DTypeLike = jnp.float32

    wide_params: ClassVar[tuple[str, ...]] = ()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = images.astype(self.dtype)
        for i, width in enumerate(self.widths, start=1):
            x = nn.relu(self._dense(unfold(x, kernel=3, stride=2), width, f"{i}", train))
        x = self._dense(x.reshape(x.shape[0], -1), self.features_dim, "_features", train)
        return nn.relu(x) if self.activate_features else x

    def _dense(self, x, width, name, train):
        x = nn.Dense(width, use_bias=False, dtype=self.dtype, kernel_init=torch_default, name=f"dense{name}")(x)
        return BatchNorm(self.bn_groups, dtype=self.dtype, name=f"bn{name}")(x, train)
