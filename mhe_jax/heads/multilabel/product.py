"""MultiLabelProductHead (`mhp`): the Kronecker sum of short heads as a softmax over all labels."""

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING
from mhe_jax.heads.multilabel.checks import check_reduction
from mhe_jax.heads.softmax.product import ProductHead
from mhe_jax.labels import LabelSpace
from mhe_jax.ops import kronecker, multilabel


class MultiLabelProductHead(ProductHead):
    """Pick-all-labels: the softmax cross-entropy of the Kronecker-sum logits, for each label of a document.

    Independent sigmoids are not offered: a softmax's sum over all labels factorises over the digits, the product over
    labels of 1 - sigmoid(sum of logits) does not. A document without labels has loss 0.

    Parameters and fields are those of `ProductHead`, with `ce_per_head` as the only objective.

    Attributes:
      reduction: `sum` over a document's labels, or `mean`; see `ops.multilabel.pick_all_labels`.
    """

    reduction: str = "sum"

    def setup(self):
        check_reduction(self.reduction)
        if self.objective != "ce_per_head":
            raise ValueError(
                f"config.head.objective is {self.objective!r}, which does not fit documents with several labels: "
                "independent sigmoids of the labels do not factorise over the digits, and losses of the digits alone "
                "forget which digits belong together; use 'ce_per_head', the softmax over all labels (pick-all-labels)"
            )
        super().setup()

    def loss(self, features, labels, context=NOTHING):
        space, logits = self.label_space, self._split(self._flat_logits(features))
        if not self.mask_padding:
            space = LabelSpace(space.num_codes, space.head_sizes)  # every code counts as a class
        log_z = jax.nn.logsumexp(kronecker.log_partition(logits, space), axis=1)
        label_logits = kronecker.mixture_code_scores(logits, jnp.maximum(space.encode(labels), 0))
        # Only a single product has smoothing; its mean score is that of group 0.
        total = kronecker.mean_score(logits, space)[:, 0] * space.num_classes if self.label_smoothing else 0.0
        mean, classes = self.reduction == "mean", space.num_classes
        return multilabel.pick_all_labels(log_z, label_logits, labels, mean, total, classes, self.label_smoothing), {}
