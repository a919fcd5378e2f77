"""OneHotHead (`ohe`): the ordinary softmax classifier, as a baseline that fits in memory at any number of classes."""

import jax.numpy as jnp

from mhe_jax.heads.base import Head, torch_linear
from mhe_jax.ops import losses, sharded


class OneHotHead(Head):
    """One row of weights per class, and a softmax over all of them, computed block by block.

    Parameters: kernel [C, D], bias [C]; split over 'class'.

    Attributes:
      use_bias: whether classes have a bias.
      block_size: classes per block; 0 chooses one that keeps a block of logits within 64 MiB.
    """

    use_bias: bool = True
    block_size: int = 0

    def setup(self):
        super().setup()
        init, classes = torch_linear(self.features_dim), self.label_space.num_classes
        self.kernel = self.class_table("kernel", init, classes, self.features_dim)
        self.bias = self.class_table("bias", self.bias_init(), classes) if self.use_bias else None

    def bias_init(self):
        """What the biases start from."""
        return torch_linear(self.features_dim)

    def loss(self, features, labels, key=None):
        lse, target, total = self._statistics(features, jnp.maximum(labels, 0), with_total=self.label_smoothing > 0)
        num_classes = self.label_space.num_classes
        return losses.smoothed_cross_entropy(lse, target, total, num_classes, self.label_smoothing), {}

    def topk(self, features, k):
        self.check_k(k)
        features, is_class = features.astype(self.dtype), self._is_class()
        logits, ids, lse = sharded.topk(
            features, self.kernel, self.bias, is_class, k, self.block_size, self.class_shards
        )
        return logits - lse[:, None], ids

    def scores(self, features, ids):
        lse, _, _ = self._statistics(features, jnp.full(ids.shape[0], -1))
        rows = self.kernel[:, None, :]  # each class is a block of one
        logits = sharded.block_logits(rows, features.astype(self.dtype), ids, self.class_shards)[:, :, 0]
        if self.bias is not None:
            logits += self.bias[ids]
        return logits - lse[:, None]

    def _statistics(self, features, labels, with_total=False):
        features, is_class = features.astype(self.dtype), self._is_class()
        return sharded.lse(
            features, self.kernel, self.bias, labels, is_class, self.block_size, with_total, self.class_shards
        )

    def _is_class(self):
        """Which rows of the table are classes: the others fill it up to a multiple of the shards."""
        return jnp.arange(self.kernel.shape[0]) < self.label_space.num_classes
