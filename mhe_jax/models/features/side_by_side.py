"""Two kinds of evidence before one head: what a network makes of an example, and a bag of its words."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.features.bag import Bag
from mhe_jax.models.layers.lengths import unit_length


class SideBySide(nn.Module):
    """The result of a network and of a bag, one after the other: [B, features_dim].

    It takes the inputs of the network, then those of the bag, ids int32 [B, W] and values float [B, W], then `train`.

    Attributes:
      network: an encoder of texts, or `Identity` on features that one made before.
      bag: of the words of the same documents.
      part_length: length that each of the two is scaled to, so that neither drowns the other; 0: they stay as they are.
      dtype: compute dtype.
    """

    network: nn.Module
    bag: Bag
    part_length: float = 0.0
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        if self.part_length < 0:
            raise ValueError(f"config.backbone.part_length is {self.part_length}; it must be at least 0")

    @property
    def wide_params(self) -> tuple[str, ...]:
        """Those of the network; the bag has none."""
        return self.network.wide_params

    @property
    def features_dim(self) -> int:
        """Width of the result."""
        return self.network.features_dim + self.bag.features_dim

    def __call__(self, *inputs: jax.Array, train: bool | jax.Array) -> jax.Array:
        *first, ids, values = inputs
        parts = [self.network(*first, train=train), self.bag(ids, values, train=train)]
        if self.part_length:
            parts = [self.part_length * unit_length(part) for part in parts]
        return jnp.concatenate(parts, axis=-1)
