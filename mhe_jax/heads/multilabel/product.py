"""MultiLabelProductHead (`mhp`): the Kronecker sum of short heads as a softmax over all labels."""

import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Context, Features, Labels, Losses
from mhe_jax.heads.digit_table import DigitTable
from mhe_jax.heads.multilabel.checks import check_reduction
from mhe_jax.ops import multilabel


class MultiLabelProductHead(DigitTable):
    """Pick-all-labels: the softmax cross-entropy of the Kronecker-sum logits, for each label of a document.

    Independent sigmoids are not offered: a softmax's sum over all labels factorises over the digits, the product over
    labels of 1 - sigmoid(sum of logits) does not. Losses of the digits alone would forget which digits belong together.
    A document without labels has loss 0.

    Parameters and further fields are those of `DigitTable`.

    Attributes:
      reduction: `sum` over a document's labels, or `mean`; see `ops.multilabel.pick_all_labels`.
    """

    reduction: str = "sum"

    def setup(self):
        check_reduction(self.reduction)
        super().setup()

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        logits = self.split(self.flat_logits(features))
        digits = jnp.maximum(self.label_space.encode(labels), 0)
        log_z, label_logits, total, competing = self.softmax_parts(logits, digits)
        shares, mean = multilabel.shares(labels, context.targets, context.label_weights), self.reduction == "mean"
        target = (shares * label_logits).sum(axis=1)
        mass = multilabel.shares(labels, context.targets, None).sum(axis=1)
        others = total, competing, self.label_smoothing
        loss = multilabel.pick_all_labels(log_z, target, labels, mean, *others, shares, mass)
        return loss, {}
