"""Features as they are, or through a small network of dense layers."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.dropout import dropout
from mhe_jax.models.layers.lengths import unit_length
from mhe_jax.models.layers.transformer import require_shares


class Identity(nn.Module):
    """Features [B, input_dim] -> [B, features_dim]: LayerNorm, dense layers with GELU, unit length, as asked for.

    Without any of them the head sees the features themselves, and the network has no parameters.

    Attributes:
      input_dim: width of the features; 0: that of the data.
      layer_norm: whether each row is brought to mean 0 and variance 1 first, whatever scale it has.
      hidden_dims: widths of dense layers with GELU, the last one that of the features.
      l2_normalize: whether each row of the result is scaled to length 1.
      dropout: rate of dropout after each dense layer, or of the features themselves where there is none.
      dtype: compute dtype; parameters are float32.
    """

    input_dim: int = 0
    layer_norm: bool = False
    hidden_dims: tuple[int, ...] = ()
    l2_normalize: bool = False
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    wide_params: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        super().__post_init__()
        require_shares(self, "dropout")

    @property
    def features_dim(self) -> int:
        """Width of the result."""
        return self.hidden_dims[-1] if self.hidden_dims else self.input_dim

    @nn.compact
    def __call__(self, features: jax.Array, train: bool | jax.Array) -> jax.Array:
        x = features.astype(jnp.float32)  # half precision has no room for sums of squares
        if self.layer_norm:
            x = nn.LayerNorm(name="norm")(x)
        x = x.astype(self.dtype)
        for number, width in enumerate(self.hidden_dims):
            x = nn.gelu(nn.Dense(width, dtype=self.dtype, name=f"hidden_{number}")(x), approximate=False)
            x = dropout(self, x, self.dropout, train)
        if not self.hidden_dims:
            x = dropout(self, x, self.dropout, train)
        return unit_length(x) if self.l2_normalize else x
