"""MultiLabelOneHotHead (`ohe`): one sigmoid per label, the baseline without any encoding."""

import math

import jax
import jax.numpy as jnp

from mhe_jax.heads.multilabel.base import MultiLabelHead, check_prior, check_reduction, refuse_smoothing
from mhe_jax.heads.softmax.one_hot import OneHotHead
from mhe_jax.ops import sharded


class MultiLabelOneHotHead(MultiLabelHead, OneHotHead):
    """Sigmoid cross-entropy of all labels, block by block; scores are the labels' probabilities.

    Parameters and fields are those of `OneHotHead`.

    Attributes:
      prior: expected share of the labels that a document has; biases start around its log-odds, so that training need
        not first learn that labels are rare. 0 starts around even odds, as published.
      reduction: `mean` over the labels (the published system) or their `sum` (Renee), whose gradients do not shrink
        with the number of labels.
    """

    prior: float = 0.0
    reduction: str = "sum"

    lazy_value = True

    def setup(self):
        check_prior(self.prior)
        super().setup()
        refuse_smoothing(self)
        check_reduction(self.reduction)

    def bias_init(self):
        init = super().bias_init()
        shift = math.log(self.prior / (1 - self.prior)) if self.prior else 0.0
        return lambda key, shape, dtype=jnp.float32: init(key, shape, dtype) + shift

    def loss(self, features, labels, key=None, want_value=None, blocks=None):
        loss = sharded.bce(
            features.astype(self.dtype),
            self.kernel,
            self.bias,
            labels,
            self._is_class(),
            want_value,
            self.block_size,
            self.class_shards,
        )
        return loss / self.label_space.num_classes if self.reduction == "mean" else loss, {}

    def topk(self, features, k):
        self.check_k(k)
        logits, ids, _ = sharded.topk(
            features.astype(self.dtype), self.kernel, self.bias, self._is_class(), k, self.block_size, self.class_shards
        )
        return jax.nn.log_sigmoid(logits), ids

    def scores(self, features, ids):
        ids = jnp.maximum(ids, 0)
        rows = self.kernel[:, None, :]  # each class is a block of one
        logits = sharded.block_logits(rows, features.astype(self.dtype), ids, self.class_shards)[:, :, 0]
        if self.bias is not None:
            logits += self.bias[ids]
        return jax.nn.log_sigmoid(logits)
