"""MultiLabelSampledHead (`mhs`): each step trains the groups of the batch's labels, and perhaps some others."""

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Context, Features, Labels, Losses
from mhe_jax.heads.group_table import GroupTable
from mhe_jax.heads.multilabel.checks import check_reduction
from mhe_jax.ops import chunked, multilabel, sharded
from mhe_jax.ops.rows import located
from mhe_jax.ops.sampling import as_one_set


class MultiLabelSampledHead(GroupTable):
    """Pick-all-labels: the softmax cross-entropy of each label of a document against the groups that a step trains.

    A document without labels has loss 0. The table is sparse: a step uses the sampled groups alone.

    Parameters and further fields are those of `GroupTable`, with a sampler for the whole batch: `batch_union` or
    `random_groups`.

    Attributes:
      reduction: `sum` over a document's labels, or `mean`; see `ops.multilabel.pick_all_labels`.
    """

    reduction: str = "sum"

    def setup(self):
        check_reduction(self.reduction)
        if not self.sampler.one_set:
            raise ValueError(
                f"config.head.sampler {self.sampler} is for one label per example, whose group it puts first; the "
                "labels of a document lie in several groups: use 'batch_union' or 'random_groups'"
            )
        super().setup()

    def sparse_tables(self):
        return ("weight",)

    def blocks(self, features: Features, labels: Labels, context: Context = NOTHING) -> dict[str, jax.Array]:
        groups, num_groups = self._groups(labels, context.key), self.label_space.head_sizes[0]
        return {"weight": jnp.where(groups < num_groups, groups, self.weight.shape[0]).astype(jnp.int32)}

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        features, smooth = features.astype(self.dtype), self.label_smoothing > 0
        is_plain = context.targets is None and context.label_weights is None
        shares = None if is_plain else multilabel.shares(labels, context.targets, context.label_weights)
        if context.blocks:
            groups = context.blocks["weight"]
            tables = self.weight, groups, self.minus_log_q(labels, groups)
            lse, target, total = sharded.on_own_examples(self._among_gathered, tables, features, labels, shares)
        else:
            groups = self._groups(labels, context.key)
            among = self.weight, groups, labels, self.num_competing, self.block_size, smooth
            offsets = self.minus_log_q(labels, groups)
            lse, target, total = sharded.group_lse(features, *among, context.visits.get("weight"), offsets, shares)
        size = self.label_space.strides[0]
        num_valid = jnp.maximum(jnp.clip(self.num_competing - groups * size, 0, size).sum(), 1)
        mean = self.reduction == "mean"
        mass = None if is_plain else multilabel.shares(labels, context.targets, None).sum(axis=1)
        others = total, num_valid, self.label_smoothing
        loss = multilabel.pick_all_labels(lse, target, labels, mean, *others, shares, mass)
        return loss, {"coverage": self.coverage(groups, labels.shape[0])}

    def _groups(self, labels, key):
        return as_one_set(self.sample_groups(labels, key), self.label_space.head_sizes[0])

    def _among_gathered(self, table, features, labels, shares):
        """Log-sum-exp, sum of the labels' logits by their shares, sum of logits, [B] each, over groups of the table.

        The table is their weight [U, n, D], which they are [U], and what is added to their logits, [U] or None.
        """
        weight, groups, offsets = table
        num_groups, size = self.label_space.head_sizes[0], self.label_space.strides[0]
        everything, live = weight.reshape(-1, self.features_dim), groups < num_groups
        rows = located(everything, groups, live, labels, self.num_competing, num_groups, size, offsets)
        smooth = self.label_smoothing > 0
        arguments = features, rows.table, rows.offsets, rows.labels, rows.mask, self.block_size, smooth
        return chunked.blocked_lse(*arguments, weights=shares)
