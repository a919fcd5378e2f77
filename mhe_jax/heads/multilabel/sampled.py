"""MultiLabelSampledHead (`mhs`): each step trains the groups of the batch's labels, and perhaps some others."""

import jax.numpy as jnp

from mhe_jax.heads.multilabel.base import MultiLabelHead, check_reduction
from mhe_jax.heads.softmax.sampled import SampledHead
from mhe_jax.ops import candidates, chunked, multilabel, sharded


class MultiLabelSampledHead(MultiLabelHead, SampledHead):
    """Pick-all-labels: the softmax cross-entropy of each label of a document against the groups that a step trains.

    A document without labels has loss 0. The table is sparse: a step uses the sampled groups alone.

    Parameters and fields are those of `SampledHead`, with a sampler for the whole batch: `batch_union` or
    `random_groups`.

    Attributes:
      reduction: `sum` over a document's labels, or `mean`; see `ops.multilabel.pick_all_labels`.
    """

    sampler: str = "batch_union"
    reduction: str = "sum"

    def setup(self):
        super().setup()
        check_reduction(self.reduction)
        if self.sampler in ("per_example", "positive_only"):
            raise ValueError(
                f"config.head.sampler {self.sampler!r} is for one label per example, whose group it puts first; the "
                "labels of a document lie in several groups: use 'batch_union' or 'random_groups'"
            )

    def sparse_tables(self):
        return ("weight",)

    def blocks(self, features, labels, key=None):
        groups, num_blocks = self.sample_groups(labels.reshape(-1), key), self.weight.shape[0]
        return {"weight": jnp.where(groups < self.label_space.head_sizes[0], groups, num_blocks).astype(jnp.int32)}

    def loss(self, features, labels, key=None, want_value=None, blocks=None):
        features = features.astype(self.dtype)
        groups = blocks["weight"] if blocks else self.sample_groups(labels.reshape(-1), key)
        if blocks or self.class_shards == 1:
            weight = self.weight if blocks else jnp.take(self.weight, groups, axis=0, mode="clip")
            lse, label_logits, total = self._among(features, weight, groups, labels)
        else:
            lse, label_logits, total = self._sharded(features, groups, labels)
        size = self.label_space.strides[0]
        num_valid = jnp.maximum(jnp.clip(self._num_competing - groups * size, 0, size).sum(), 1)
        mean = self.reduction == "mean"
        loss = multilabel.pick_all_labels(lse, label_logits, labels, mean, total, num_valid, self.label_smoothing)
        return loss, {}

    def _among(self, features, weight, groups, labels):
        """Log-sum-exp [B], the labels' logits [B, W] and the sum of logits [B] over groups [U] of weight [U, n, D]."""
        size, dim = self.label_space.strides[0], self.features_dim
        members = groups[:, None] * size + jnp.arange(size)[None, :]
        rows, competes = weight.reshape(-1, dim), (members < self._num_competing).reshape(-1)
        nothing, smooth = jnp.full(labels.shape[0], -1), self.label_smoothing > 0
        lse, _, total = chunked.blocked_lse(features, rows, None, nothing, competes, self.block_size, smooth)
        places = jnp.searchsorted(groups, labels // size) * size + labels % size
        return lse, candidates.block_logits(rows[:, None, :], features, places)[:, :, 0], total

    def _sharded(self, features, groups, labels):
        """As `_among`, of the whole table split over 'class'."""
        nothing, smooth = jnp.full(labels.shape[0], -1), self.label_smoothing > 0
        lse, _, total = sharded.group_lse(
            features, self.weight, groups, nothing, self._num_competing, self.block_size, smooth, self.class_shards
        )
        rows = self.weight.reshape(-1, 1, self.features_dim)
        return lse, sharded.block_logits(rows, features, labels, self.class_shards)[:, :, 0], total
