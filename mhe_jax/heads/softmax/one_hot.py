"""OneHotHead (`ohe`): the ordinary softmax classifier, as a baseline that fits in memory at any number of classes."""

import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Best, Context, Features, Ids, Labels, Losses, Ranked, Scores, check_smoothing
from mhe_jax.heads.one_hot_table import OneHotTable
from mhe_jax.ops import losses


class OneHotHead(OneHotTable):
    """A softmax over all classes, computed block by block.

    Parameters and further fields are those of `OneHotTable`.

    Attributes:
      label_smoothing: probability spread evenly over all classes, in [0, 1).
    """

    label_smoothing: float = 0.0

    def setup(self):
        super().setup()
        check_smoothing(self.label_smoothing)

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        smooth = self.label_smoothing > 0
        labels = jnp.maximum(labels, 0) if labels.ndim == 1 else labels
        lse, target, total = self.softmax_statistics(features, labels, smooth, context)
        num_live = self.label_space.num_live
        return losses.smoothed_cross_entropy(lse, target, total, num_live, self.label_smoothing), {}

    def topk(self, features: Features, k: int) -> Best:
        logits, ids, lse = self.best_logits(features, k)
        return logits - lse[:, None], ids

    def topk_and_scores(self, features: Features, k: int, ids: Ids) -> Ranked:
        logits, best, lse = self.best_logits(features, k)
        return logits - lse[:, None], best, self.logits_of(features, ids) - lse[:, None]

    def scores(self, features: Features, ids: Ids) -> Scores:
        lse, _, _ = self.softmax_statistics(features, jnp.full(ids.shape[0], -1), False)
        return self.logits_of(features, ids) - lse[:, None]
