"""OneHotTable: a row of weights and a bias for each class, what one-hot heads have in common."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mhe_jax.heads.base import Head, Linear, torch_linear
from mhe_jax.ops import sharded
from mhe_jax.settings import option


class OneHotTable(Head):
    """One row of weights per class, scored block by block, on the features or on a short projection of them.

    Parameters: kernel [C, D], bias [C]; split over 'class'. With a bottleneck kernel [C, bottleneck], and
    projection/{kernel [D, bottleneck], bias}, which every device has: a linear map, so that the logits are those of a
    table of that rank.

    Attributes:
      bottleneck: width of the projection; 0: there is none.
      use_bias: whether classes have a bias, and the projection.
      block_size: classes per block; 0 chooses one that keeps a block of logits within 64 MiB.
    """

    bottleneck: int = 0
    use_bias: bool = True
    block_size: int = option(0, free=True)

    def setup(self):
        if self.bottleneck < 0:
            raise ValueError(f"config.head.bottleneck is {self.bottleneck}; it must be at least 0")
        if self.bottleneck:
            self.projection = Linear(self.features_dim, self.bottleneck, self.use_bias)
        init, classes = torch_linear(self.width), self.label_space.num_classes
        self.kernel = self.class_table("kernel", init, classes, self.width)
        self.bias = self.class_table("bias", self.bias_init(), classes) if self.use_bias else None

    def bias_init(self) -> nn.initializers.Initializer:
        """What the biases start from."""
        return torch_linear(self.width)

    @property
    def width(self) -> int:
        """Of the table's rows."""
        return self.bottleneck or self.features_dim

    def queries(self, features: jax.Array) -> jax.Array:
        """What rows are multiplied with, in the compute dtype: [B, D] -> [B, width]."""
        features = features.astype(self.dtype)
        return self.projection(features).astype(self.dtype) if self.bottleneck else features

    def best_logits(self, features: jax.Array, k: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The k largest logits [B, k], their classes, and the log-sum-exp over all [B]."""
        self.check_k(k)
        return sharded.topk(self.queries(features), self.kernel, self.bias, self.is_class, k, self.block_size)

    def logits_of(self, features: jax.Array, ids: jax.Array) -> jax.Array:
        """Logits of given classes: [B, D], int [B, M] -> float32 [B, M]."""
        rows = self.kernel.reshape(-1, 1, self.width)  # each class is a block of one
        logits = sharded.block_logits(rows, self.queries(features), ids)[:, :, 0]
        return logits if self.bias is None else logits + self.bias[ids]

    @property
    def is_class(self) -> jax.Array:
        """Which rows of the table are classes: the others fill it up to a multiple of the devices."""
        return jnp.arange(self.kernel.shape[0]) < self.label_space.num_classes
