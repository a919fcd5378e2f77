"""Sparse features as one vector: the weighted sum of an embedding of each feature that a row has."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mhe_jax.models.layers.dropout import dropout
from mhe_jax.models.layers.lengths import unit_length
from mhe_jax.models.layers.transformer import require_shares


class Bag(nn.Module):
    """Features (ids int32 [B, W], values float [B, W]) -> [B, features_dim], where value 0 says that there is none.

    Source: the features of fastText (Joulin et al., EACL 2017) and of Astec (Dahiya et al., WSDM 2021), whose residual
    block is `x + relu(W x)`.

    Attributes:
      input_dim: above all ids; 0: that of the data.
      features_dim: width of the embeddings, and of the result.
      unit_rows: whether each row's values are scaled to length 1 first.
      init_scale: standard deviation of the embeddings at the start.
      residual: whether a residual block follows the sum.
      feature_dropout: share of the features of a row that training leaves out, the others are scaled up.
      dropout: rate of dropout of the result.
      dtype: compute dtype; parameters are float32.
    """

    input_dim: int = 0
    features_dim: int = 256
    unit_rows: bool = True
    init_scale: float = 0.1
    residual: bool = False
    feature_dropout: float = 0.0
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    wide_params: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        super().__post_init__()
        require_shares(self, "feature_dropout", "dropout")

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, train: bool | jax.Array) -> jax.Array:
        table = self.param("embedding", nn.initializers.normal(self.init_scale), (self.input_dim, self.features_dim))
        values = values.astype(jnp.float32)
        if self.unit_rows:
            values = unit_length(values)
        values = dropout(self, values, self.feature_dropout, train).astype(self.dtype)
        # Ids come from the data, which checked them: 'clip' spares the check for others.
        rows = jnp.take(table.astype(self.dtype), ids, axis=0, mode="clip")
        x = jnp.einsum("bw,bwd->bd", values, rows)
        if self.residual:
            x = x + nn.relu(nn.Dense(self.features_dim, dtype=self.dtype, name="residual")(x))
        return dropout(self, x, self.dropout, train)
