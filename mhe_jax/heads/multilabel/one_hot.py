"""MultiLabelOneHotHead (`ohe`): one sigmoid per label, the baseline without any encoding."""

import math

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Best, Context, Features, Ids, Labels, Losses, Scores
from mhe_jax.heads.multilabel.checks import check_prior, check_reduction
from mhe_jax.heads.one_hot_table import OneHotTable, Part
from mhe_jax.ops import sharded
from mhe_jax.settings import DO_WITHOUT


class MultiLabelOneHotHead(OneHotTable):
    """Sigmoid cross-entropy of all labels, block by block; scores are the labels' probabilities.

    Parameters and further fields are those of `OneHotTable`.

    Attributes:
      prior: expected share of the labels that a document has; biases start around its log-odds, so that training need
        not first learn that labels are rare. 0 starts around even odds, as published; without biases it must be 0.
      reduction: `mean` over the labels (the published system) or their `sum` (Renee), whose gradients do not shrink
        with the number of labels.
    """

    prior: float = 0.0
    reduction: str = "sum"

    lazy_value = True
    leaves_out = True

    def setup(self):
        check_prior(self.prior)
        if self.prior and not self.use_bias:
            raise ValueError(
                f"config.head.prior is {self.prior}, but config.head.use_bias is False, and the prior is what biases "
                "start from: set config.head.prior = 0"
            )
        check_reduction(self.reduction)
        super().setup()

    def bias_init(self, width):
        init = super().bias_init(width)
        shift = math.log(self.prior / (1 - self.prior)) if self.prior else 0.0
        return lambda key, shape, dtype=jnp.float32: init(key, shape, dtype) + shift

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        def of(part: Part) -> jax.Array:
            among = part.places(labels), part.is_class, context.want_value, self.block_size
            soft = context.visits.get(part.name), context.targets, context.label_weights
            found: jax.Array = sharded.bce(part.queries, part.kernel, part.bias, *among, *soft)
            return found

        first, *others = map(of, self.parts(features))
        loss = sum(others, first)
        if context.ignored is not None:
            if context.visits:
                raise ValueError(
                    "config.table_optimizer moves the table while its loss is computed, and so can leave no label out: "
                    f"for data with ignored labels set {DO_WITHOUT}"
                )
            logits = self.logits_of(features, jnp.maximum(context.ignored, 0))
            # Each was counted as one that is not there.
            loss -= jnp.where(context.ignored < 0, 0.0, jax.nn.softplus(logits)).sum(axis=1)
        return loss / self.label_space.num_live if self.reduction == "mean" else loss, {}

    def topk(self, features: Features, k: int) -> Best:
        logits, ids, _ = self.best_logits(features, k)
        return jax.nn.log_sigmoid(logits), ids

    def scores(self, features: Features, ids: Ids) -> Scores:
        return jax.nn.log_sigmoid(self.logits_of(features, jnp.maximum(ids, 0)))
