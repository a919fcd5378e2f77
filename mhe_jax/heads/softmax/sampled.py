"""SampledHead (`mhs`): each step trains a few groups of classes, the true ones among them (Multi-Head Sampling)."""

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Context, Features, Labels, Losses
from mhe_jax.heads.group_table import GroupTable
from mhe_jax.ops import losses, sharded
from mhe_jax.ops.owned import Visit
from mhe_jax.ops.sampling import PerExample, Sampler, as_one_set
from mhe_jax.ops.storage import store


class SampledHead(GroupTable):
    """The softmax cross-entropy of an example's class among the members of the groups that the step trains.

    Parameters and fields are those of `GroupTable`; the default sampler is that of the reference's image heads.
    """

    sampler: Sampler = PerExample()

    def from_one_hot(self, params: dict, one_hot: dict) -> dict:
        weight = params["weight"]
        rows = one_hot["kernel"][: self.label_space.num_classes].astype(jnp.float32)
        missing = weight.shape[0] * weight.shape[1] - rows.shape[0]
        filled = jnp.pad(rows, ((0, missing), (0, 0))).reshape(weight.shape)
        return {"weight": store(filled, self.storage_of("weight"))}

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        if not self.sampler.one_set:
            why = "its groups are those of one label; use 'batch_union'"
            context.require_hard_labels(f"config.head.sampler {self.sampler}", why)
        groups = self.sample_groups(labels, context.key)
        if self.sampler.one_set:
            groups = as_one_set(groups, self.label_space.head_sizes[0])
        raised = None if context.adjustment is None else context.cooled(context.adjustment)
        # The sampler's correction is of the sum over the classes, and so stays outside of the temperature.
        offsets = self.raised(self.minus_log_q(labels, groups), raised, groups)
        visit = context.visits.get("weight")
        loss = self.loss_among(context.cooled(features), labels, groups, offsets, visit, context.targets)
        return loss, {"coverage": self.coverage(groups, labels.shape[0])} if self.sampler.one_set else {}

    def loss_among(
        self,
        features: jax.Array,
        labels: jax.Array,
        groups: jax.Array,
        offsets: jax.Array | None = None,
        visit: Visit | None = None,
        targets: jax.Array | None = None,
    ) -> jax.Array:
        """The loss against given groups, float32 [B].

        Args:
          features: float [B, D].
          labels: int [B], or with `targets` [B, W].
          groups: int [B, K] of each example, the true one in slot 0; or one set [U], ascending, with every true group.
          offsets: float32 of the shape of `groups`, added to the logits of each group's members, or with one number
            more for each member.
          visit: how the rows of one set move, see `mhe_jax.ops.owned`.
          targets: of one set, the probability of each label [B, W].
        """
        features, size = features.astype(self.dtype), self.label_space.strides[0]
        if groups.ndim == 1:
            smooth = self.label_smoothing > 0
            among = self.weight, groups, labels, self.num_competing, self.block_size, smooth
            lse, target, total = sharded.group_lse(features, *among, visit, offsets, targets)
            num_valid = jnp.clip(self.num_competing - groups * size, 0, size).sum()
            return losses.smoothed_cross_entropy(lse, target, total, num_valid, self.label_smoothing)
        logits = sharded.block_logits(self.weight, features, groups)
        if offsets is not None:
            logits += offsets if offsets.ndim == 3 else offsets[:, :, None]
        members = groups[:, :, None] * size + jnp.broadcast_to(jnp.arange(size), logits.shape)
        competes = (members < self.num_competing).reshape(labels.shape[0], -1)
        # The true group is in slot 0, so the label's place is its place within the group.
        logits, place = logits.reshape(labels.shape[0], -1), jnp.maximum(labels, 0) % size
        return losses.softmax_cross_entropy(logits, place, competes, self.label_smoothing)
