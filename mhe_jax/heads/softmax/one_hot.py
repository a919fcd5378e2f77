"""OneHotHead (`ohe`): the ordinary softmax classifier, as a baseline that fits in memory at any number of classes."""

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.heads.base import NOTHING, Best, Context, Features, Ids, Labels, Losses, Ranked, Scores, check_smoothing
from mhe_jax.heads.one_hot_table import OneHotTable, Part
from mhe_jax.ops import losses, sharded

OBJECTIVES = ("softmax", "bce")


class OneHotHead(OneHotTable):
    """A softmax over all classes, computed block by block.

    Parameters and further fields are those of `OneHotTable`.

    Attributes:
      label_smoothing: probability spread evenly over all classes, in [0, 1).
      objective: the loss. `softmax`: its cross-entropy; `bce`: the mean over the classes of a sigmoid's, with target 1
        for the label and 0 for the others (Wightman et al., 2021, with LAMB; the targets of a mixed picture are its
        shares). Scores are those of the softmax in both.
    """

    label_smoothing: float = 0.0
    objective: str = "softmax"

    def setup(self):
        super().setup()
        check_smoothing(self.label_smoothing)
        if self.objective not in OBJECTIVES:
            raise ValueError(f"config.head.objective is {self.objective!r}; it must be one of {', '.join(OBJECTIVES)}")
        if self.objective == "bce" and self.label_smoothing:
            raise ValueError(
                f"config.head.label_smoothing is {self.label_smoothing}, which objective 'bce' has not: set it to 0"
            )

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        if self.objective == "bce":
            return self._bce(features, labels, context), {}
        smooth = self.label_smoothing > 0
        labels = jnp.maximum(labels, 0) if labels.ndim == 1 else labels
        lse, target, total = self.softmax_statistics(features, labels, smooth, context)
        num_live = self.label_space.num_live
        return losses.smoothed_cross_entropy(lse, target, total, num_live, self.label_smoothing), {}

    def _bce(self, features: Features, labels: Labels, context: Context) -> jax.Array:
        context.require_hard_labels("config.head.objective 'bce'", "use 'softmax'")

        def of(part: Part) -> jax.Array:
            places = part.places(jnp.maximum(labels, 0))[:, None]
            among = places, part.is_class, None, self.block_size, context.visits.get(part.name)
            found: jax.Array = sharded.bce(part.queries, part.kernel, part.bias, *among)
            return found

        first, *others = map(of, self.parts(features))
        return sum(others, first) / self.label_space.num_live

    def adjustment(self, log_prior: np.ndarray) -> dict[str, np.ndarray]:
        if self.objective == "bce":
            raise ValueError(
                "config.logit_adjustment is set, but config.head.objective 'bce' has no softmax to adjust: set it to 0"
            )
        return super().adjustment(log_prior)

    def topk(self, features: Features, k: int) -> Best:
        logits, ids, lse = self.best_logits(features, k)
        return logits - lse[:, None], ids

    def topk_and_scores(self, features: Features, k: int, ids: Ids) -> Ranked:
        logits, best, lse = self.best_logits(features, k)
        return logits - lse[:, None], best, self.logits_of(features, ids) - lse[:, None]

    def scores(self, features: Features, ids: Ids) -> Scores:
        lse, _, _ = self.softmax_statistics(features, jnp.full(ids.shape[0], -1), False)
        return self.logits_of(features, ids) - lse[:, None]
