"""Two kinds of evidence before one head: what a network makes of an example, and a bag of its words."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.features.bag import Bag

_SMALLEST = 1e-12  # square of the length below which a part is not scaled up


class SideBySide(nn.Module):
    """(inputs of the network, ids int32 [B, W], values float [B, W], train) -> [B, features_dim]: both results, one after the other.

    Attributes:
      network: an encoder of texts, or `Identity` on features that one made before.
      bag: of the words of the same documents.
      unit_parts: whether each part is scaled to length 1, so that neither drowns the other.
      part_scale: by what each part is multiplied then; logits are products with them.
      dtype: compute dtype.
    """

    network: nn.Module
    bag: Bag
    unit_parts: bool = False
    part_scale: float = 1.0
    dtype: DTypeLike = jnp.float32

    @property
    def features_dim(self) -> int:
        """Width of the result."""
        return self.network.features_dim + self.bag.features_dim

    def __call__(self, *inputs: jax.Array, train: bool | jax.Array) -> jax.Array:
        *first, ids, values = inputs
        parts = [self.network(*first, train=train), self.bag(ids, values, train=train)]
        return jnp.concatenate([self._scaled(part) if self.unit_parts else part for part in parts], axis=-1)

    def _scaled(self, part: jax.Array) -> jax.Array:
        wide = part.astype(jnp.promote_types(part.dtype, jnp.float32))
        # Not by the norm, whose gradient at 0, as documents without a known word have, is none.
        squares = jnp.square(wide).sum(axis=-1, keepdims=True)
        return (wide * self.part_scale * jax.lax.rsqrt(jnp.maximum(squares, _SMALLEST))).astype(part.dtype)
