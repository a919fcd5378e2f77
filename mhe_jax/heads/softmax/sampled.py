"""SampledHead (`mhs`): each step trains a few groups of classes, the true ones among them (Multi-Head Sampling)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mhe_jax.heads.base import Head
from mhe_jax.ops import losses, sampling, sharded

SAMPLERS = ("per_example", "batch_union", "positive_only", "random_groups")


class SampledHead(Head):
    """A softmax classifier without bias, trained on groups: classes that share digit 0.

    Heads 1 .. H-1 only number the members of a group, so any H works. Inference scores all classes.

    Parameters: weight [n_0, n_1 * .. * n_{H-1}, D], split over 'class'.

    Attributes:
      sampler: `per_example`, the true group and `num_groups - 1` random others for each example (the reference's image
        heads); `positive_only`, the true group alone; `batch_union`, the true groups of the whole batch (the
        reference's face head); `random_groups`, those and others, `sample_rate` of all groups (PartialFC).
      num_groups: groups per example of `per_example`.
      sample_rate: fraction of the groups that `random_groups` uses.
      drop_one_group: whether `per_example` uses at most n_0 - 1 groups, as the reference's sampler loses one.
      block_size: classes per block; 0 chooses one that keeps a block of logits within 64 MiB.
      mask_padding: whether members that are no class stay out of the loss's softmax; the reference lets them in.
    """

    sampler: str = "per_example"
    num_groups: int = 4
    sample_rate: float = 0.1
    drop_one_group: bool = False
    block_size: int = 0
    mask_padding: bool = True

    def setup(self):
        super().setup()
        if self.sampler not in SAMPLERS:
            raise ValueError(f"config.head.sampler is {self.sampler!r}; it must be one of {', '.join(SAMPLERS)}")
        if self.num_groups < 1:
            raise ValueError(f"config.head.num_groups is {self.num_groups}; it must be at least 1")
        if not 0 <= self.sample_rate <= 1:
            raise ValueError(f"config.head.sample_rate is {self.sample_rate}; it must be in [0, 1]")
        shape = (self.label_space.head_sizes[0], self.label_space.strides[0], self.features_dim)
        self.weight = self.class_table("weight", nn.initializers.normal(0.01), *shape)

    def loss(self, features, labels, key=None, group_ids=None):
        """As `Head.loss`; explicit groups replace the sampler's.

        Args:
          features: float [B, D].
          labels: int [B].
          key: what the samplers `per_example` and `random_groups` draw from.
          group_ids: int [B, K] with the true group in slot 0 for the per-example samplers, otherwise int [U],
            ascending and with every true group.

        Raises:
          ValueError: if the sampler needs a key and there is none.
        """
        features = features.astype(self.dtype)
        if group_ids is None:
            group_ids = self.sample_groups(labels, key)
        if group_ids.ndim == 2:
            return self._per_example_loss(features, jnp.maximum(labels, 0), group_ids), {}
        return self._batch_loss(features, labels, group_ids), {}

    def sample_groups(self, labels, key=None) -> jax.Array:
        """The groups that a step trains: int [B, K], or one set [U] for the whole batch (see `ops.sampling`)."""
        num_groups = self.label_space.head_sizes[0]
        groups = jnp.where(labels < 0, -1, labels // self.label_space.strides[0])
        if self.sampler == "positive_only":
            return sampling.positive_only(groups)
        if self.sampler == "batch_union":
            return sampling.batch_union(groups, num_groups)
        if key is None:
            raise ValueError(f"config.head.sampler {self.sampler!r} draws at random: loss needs a key, or group_ids")
        if self.sampler == "random_groups":
            return sampling.random_groups(key, groups, num_groups, self.sample_rate)
        most = max(num_groups - self.drop_one_group, 1)
        return sampling.per_example(key, groups, num_groups, min(self.num_groups, most))

    def topk(self, features, k):
        self.check_k(k)
        features, kernel, bias, is_class = self._table(features)
        logits, ids, lse = sharded.topk(features, kernel, bias, is_class, k, self.block_size, self.class_shards)
        return logits - lse[:, None], ids

    def scores(self, features, ids):
        features, kernel, bias, is_class = self._table(features)
        nothing = jnp.full(ids.shape[0], -1)
        lse, _, _ = sharded.lse(features, kernel, bias, nothing, is_class, self.block_size, False, self.class_shards)
        logits = sharded.block_logits(kernel[:, None, :], features, ids, self.class_shards)[:, :, 0]
        return logits - lse[:, None]

    def _per_example_loss(self, features, labels, group_ids):
        size = self.label_space.strides[0]
        logits = sharded.block_logits(self.weight, features, group_ids, self.class_shards)
        members = group_ids[:, :, None] * size + jnp.broadcast_to(jnp.arange(size), logits.shape)
        competes = (members < self._num_competing).reshape(labels.shape[0], -1)
        # The true group is in slot 0, so the label's place is its place within the group.
        logits = logits.reshape(labels.shape[0], -1)
        return losses.softmax_cross_entropy(logits, labels % size, competes, self.label_smoothing)

    def _batch_loss(self, features, labels, groups):
        size, num_codes = self.label_space.strides[0], self._num_competing
        lse, target, total = sharded.group_lse(
            features,
            self.weight,
            groups,
            labels,
            num_codes,
            self.block_size,
            self.label_smoothing > 0,
            self.class_shards,
        )
        num_valid = jnp.clip(num_codes - groups * size, 0, size).sum()
        return losses.smoothed_cross_entropy(lse, target, total, num_valid, self.label_smoothing)

    @property
    def _num_competing(self) -> int:
        """Codes below this take part in the loss."""
        return self.label_space.num_classes if self.mask_padding else self.label_space.num_codes

    def _table(self, features):
        """All classes as one table: features, rows [n_0 * n_1, D], no bias, and which rows are classes."""
        rows = self.weight.reshape(-1, self.features_dim)
        return features.astype(self.dtype), rows, None, jnp.arange(rows.shape[0]) < self.label_space.num_classes
