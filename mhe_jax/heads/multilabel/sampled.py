"""MultiLabelSampledHead (`mhs`): each step trains the groups of the batch's labels, and perhaps some others."""

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Context, Features, Labels, Losses
from mhe_jax.heads.group_table import GroupTable
from mhe_jax.heads.multilabel.checks import check_reduction
from mhe_jax.ops import candidate_logits, chunked, multilabel, per_row, sharded
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
        features, blocks = features.astype(self.dtype), context.blocks
        groups = blocks["weight"] if blocks else self._groups(labels, context.key)
        offsets = self.minus_log_q(labels, groups)
        if blocks or per_row.axis_size("class") == 1:
            weight = self.weight if blocks else jnp.take(self.weight, groups, axis=0, mode="clip")
            table = weight, groups, offsets
            lse, label_logits, total = sharded.on_own_examples(self._among, table, features, labels)
        else:
            lse, label_logits, total = self._sharded(features, groups, labels, offsets)
        size = self.label_space.strides[0]
        num_valid = jnp.maximum(jnp.clip(self.num_competing - groups * size, 0, size).sum(), 1)
        mean = self.reduction == "mean"
        loss = multilabel.pick_all_labels(lse, label_logits, labels, mean, total, num_valid, self.label_smoothing)
        return loss, {}

    def _groups(self, labels, key):
        return as_one_set(self.sample_groups(labels, key), self.label_space.head_sizes[0])

    def _among(self, table, features, labels):
        """Log-sum-exp [B], the labels' logits [B, W] and the sum of logits [B] over a table of groups.

        The table is their weight [U, n, D], which they are [U], and what is added to their logits, [U] or None.
        """
        weight, groups, offsets = table
        size, dim = self.label_space.strides[0], self.features_dim
        members = groups[:, None] * size + jnp.arange(size)[None, :]
        rows, competes = weight.reshape(-1, dim), (members < self.num_competing).reshape(-1)
        nothing, smooth = jnp.full(labels.shape[0], -1), self.label_smoothing > 0
        bias = None if offsets is None else jnp.repeat(offsets, size)
        lse, _, total = chunked.blocked_lse(features, rows, bias, nothing, competes, self.block_size, smooth)
        places = jnp.searchsorted(groups, labels // size, method="scan_unrolled") * size + labels % size
        return lse, candidate_logits.block_logits(rows[:, None, :], features, places)[:, :, 0], total

    def _sharded(self, features, groups, labels, offsets):
        """As `_among`, of the whole table split over 'class'."""
        nothing, smooth = jnp.full(labels.shape[0], -1), self.label_smoothing > 0
        lse, _, total = sharded.group_lse(
            features, self.weight, groups, nothing, self.num_competing, self.block_size, smooth, offsets
        )
        rows = self.weight.reshape(-1, 1, self.features_dim)
        return lse, sharded.block_logits(rows, features, labels)[:, :, 0], total
