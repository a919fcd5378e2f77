"""MarginHead: what heads on cosines share, the loss with a margin and the ranking without it.

Such a head exists to train the backbone: features and class rows are compared by their angle, and an example's own
class must win by a margin (`ops.margins`). Afterwards the features are the result and the head is dropped; `topk` and
`scores` still tell the training classes apart, without a margin.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mhe_jax.heads import beginning
from mhe_jax.heads.base import Context, Features, Head, Ids, Scores
from mhe_jax.ops import sharded
from mhe_jax.ops.cosines import HardNegatives
from mhe_jax.ops.lengths import safe_normalize
from mhe_jax.ops.margins import Margin
from mhe_jax.ops.owned import Visit
from mhe_jax.ops.storage import Stored

# What the published face heads draw their rows from.
ROW_INIT = nn.initializers.normal(0.01)

# Given how hard negatives count, the own cosine [B] and the log-sum-exp over the scaled others [B].
Comparison = Callable[[HardNegatives | None], tuple[jax.Array, jax.Array]]


class MarginHead(Head):
    """A head on cosines whose loss has a margin; norms, margins and losses are float32.

    The metrics of `loss` are `cosine`, of the own class before the margin, and `norm`, of the features, [B] each.

    Attributes:
      margin: see `ops.margins`; `config.head.margin`.
    """

    margin: Margin = Margin()

    def statistics(self):
        return self.margin.statistics()

    def updated_statistics(self, statistics, values, weight):
        return self.margin.updated(statistics, values["cosine"], values["norm"], weight)

    def row_strides(self) -> dict[str, int]:
        """The tables whose rows are compared with the features, and how many codes share a row of each."""
        raise NotImplementedError

    def scores(self, features: Features, ids: Ids) -> Scores:
        return self.linear_scores(safe_normalize(features)[0], ids)

    def linear_scores(self, features: Features, ids: Ids) -> Scores:
        raise NotImplementedError

    def begin(self, params, trained, new):
        if (centers := getattr(self, "sub_centers", 1)) > 1:
            raise ValueError(
                f"config.head.sub_centers is {centers}: which of them a new class begins with is not known; extend a "
                "run with one"
            )
        return beginning.of_angles(params, self.row_strides(), trained, new)

    def _normalized(self, features):
        """Unit vectors in the compute dtype, and float32 norms [B]."""
        units, norms = safe_normalize(features)
        return units.astype(self.dtype), norms

    def _margin_loss(self, comparisons: Sequence[Comparison], norms, context: Context) -> tuple[jax.Array, jax.Array]:
        """Softmax cross-entropies with the margin and its penalty, summed, and the mean own cosine: float32 [B] each.

        Each comparison is one softmax. Where hard negatives count more, what is hard depends on the own cosine and on
        the statistics after the batch, so a first pass finds these.
        """
        found = [compare(None) for compare in comparisons]
        cosine = _mean([own for own, _ in found])
        statistics = self._batch_statistics(cosine, norms, context)
        boost = self.margin.hard_boost(statistics)
        if boost is not None:
            thresholds = [self.margin.threshold(own, norms, statistics) for own, _ in found]
            hard = [HardNegatives(threshold, boost) for threshold in thresholds]
            found = [compare(negatives) for compare, negatives in zip(comparisons, hard, strict=True)]
        total = self._penalty(norms)
        for own, others in found:
            # log(exp(target) + exp(others)) - target; where there is no other class, others is -inf and the loss 0.
            total += jax.nn.softplus(others - self._target(own, norms, statistics))
        return total, cosine

    def _moving(self, table: Stored, visit: Visit | None, hard) -> tuple[Stored, Visit | None]:
        """An owned table and its visit, for one of the passes of `_margin_loss`.

        Where there are two, the first has no gradient, and must move nothing.
        """
        is_first_of_two = hard is None and self.margin.hard_boost(self.statistics()) is not None
        return (jax.lax.stop_gradient(table), None) if visit is not None and is_first_of_two else (table, visit)

    def _among(self, cosines, own, is_other, offsets=0.0) -> Comparison:
        """The comparison of given cosines [B, ...] with classes, of which `is_other` are not the own one.

        Offsets are added to the logits of the others; they broadcast to these, at equal rank.
        """

        def compare(hard):
            shown = cosines if hard is None else hard.apply(cosines)
            logits = self.margin.scale * shown + offsets
            return own, jax.nn.logsumexp(logits, axis=tuple(range(1, cosines.ndim)), where=is_other)

        return compare

    def _batch_statistics(self, cosine, norms, context: Context):
        """The statistics that the loss of a batch uses."""
        statistics = self.statistics() if context.statistics is None else context.statistics
        weight = jnp.ones_like(norms) if context.weight is None else context.weight
        return self.margin.updated(statistics, cosine, norms, weight)

    def _target(self, own, norms, statistics):
        """The own class's logit."""
        return self.margin.scale * self.margin.target(own, norms, statistics)

    def _penalty(self, norms):
        penalty = self.margin.penalty(norms)
        return jnp.zeros_like(norms) if penalty is None else penalty


def require_centers(sub_centers: int) -> None:
    """Raises ValueError unless each class has a row at least."""
    if sub_centers < 1:
        raise ValueError(f"config.head.sub_centers is {sub_centers}; it must be at least 1")


def all_classes_topk(head: MarginHead, rows: Stored, features: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """`Head.topk` of a normalised softmax over the rows [N, D] of a table, `head.sub_centers` of each class."""
    queries, is_class = _scaled(head, safe_normalize(features)[0]), _is_class(head, rows)
    logits, ids, lse = sharded.topk(queries, rows, None, is_class, k, head.block_size, True, head.sub_centers)
    return logits - lse[:, None], ids


def all_classes_scores(head: MarginHead, rows: Stored, features: jax.Array, ids: jax.Array) -> jax.Array:
    """`Head.linear_scores` likewise."""
    queries, nothing = _scaled(head, features), jnp.full(ids.shape[0], -1)
    # Without a class of their own all rows are others, and the queries are scaled already.
    among = queries, rows, nothing, _is_class(head, rows), 1.0, None, head.block_size
    _, lse = sharded.cosines(*among, centers=head.sub_centers)
    by_class = rows.reshape(-1, head.sub_centers, features.shape[1])
    logits = sharded.block_logits(by_class, queries, ids, unit_rows=True).max(axis=2)
    return logits - lse[:, None]


def _scaled(head, units):
    """Queries whose products with unit rows are logits."""
    return (head.margin.scale * units).astype(head.dtype)


def live_centers(head: Any, rows: int) -> jax.Array:
    """Which rows of a table are of classes, `head.sub_centers` of each: bool [rows]."""
    return jnp.repeat(head.live_rows(-(-rows // head.sub_centers)), head.sub_centers)[:rows]


def _is_class(head, rows):
    return live_centers(head, rows.shape[0])


def _mean(arrays):
    return sum(arrays[1:], start=arrays[0]) / len(arrays)
