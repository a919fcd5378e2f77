"""SampledMarginHead: a margin softmax over some groups of classes per step (MHS-ArcFace, PartialFC)."""

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Best, Context, Features, Ids, Labels, Losses, Scores
from mhe_jax.heads.growth import Growing
from mhe_jax.heads.margin.base import ROW_INIT, MarginHead, all_classes_scores, all_classes_topk, require_centers
from mhe_jax.ops import per_row, sharded
from mhe_jax.ops.sampling import BatchUnion, RandomGroups, Sampler
from mhe_jax.settings import option


class SampledMarginHead(MarginHead):
    """A margin softmax over the true groups of classes and perhaps others; groups are classes that share digit 0.

    With head_sizes (C, 1) a group is a single class, and sampler `random_groups` is PartialFC (arXiv 2203.15565). Where
    the sampler draws one set for the whole batch, the table is a sparse one: a step may update the sampled rows alone.
    The metric `coverage` of `loss` is the share of the groups that the batch trains.

    Parameters: weight [n_0, n_1 * .. * n_{H-1}, D], split over 'class'; with sub-centers the last is
    sub_centers * D.

    Attributes:
      sampler: see `ops.sampling`; `config.head.sampler`. `parts` must be a multiple of the devices along 'class', each
        of which samples its own.
      sub_centers: see `OneHotMarginHead`.
      block_size: rows per block; 0 chooses as many as keep a block of cosines within 64 MiB.
      mask_padding: whether members that are no class stay out of the softmax; the published heads let them in.
    """

    sampler: Sampler = BatchUnion()
    sub_centers: int = 1
    block_size: int = option(0, free=True)
    mask_padding: bool = True

    def setup(self):
        require_centers(self.sub_centers)
        shards = per_row.axis_size("class")
        if self.table_parts % shards:
            raise ValueError(
                f"config.head.sampler.parts is {self.table_parts}; it must be 0 or a multiple of the {shards} devices "
                "along mesh axis 'class'"
            )
        shape = (self.label_space.head_sizes[0], self.label_space.strides[0], self.sub_centers * self.features_dim)
        self.weight = self.class_table("weight", ROW_INIT, *shape)

    @property
    def table_parts(self):
        parts = self.sampler.parts if isinstance(self.sampler, BatchUnion | RandomGroups) else 0
        return parts or per_row.axis_size("class")

    def sparse_tables(self):
        return ("weight",) if self.sampler.one_set else ()

    def owned_tables(self):
        return ("weight",) if self.sampler.one_set and self.sub_centers == 1 else ()

    def stages(self):
        return tuple(self.clone(sampler=sampler) for sampler in self.sampler.stages)

    def blocks(self, features: Features, labels: Labels, context: Context = NOTHING) -> dict[str, jax.Array]:
        return {"weight": self._groups(jnp.maximum(labels, 0), context.key)} if self.sampler.one_set else {}

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        labels = jnp.maximum(labels, 0)
        groups = context.blocks["weight"] if context.blocks else self._groups(labels, context.key)
        queries, norms = self._normalized(features)
        offsets = self.sampler.minus_log_q(self._true_groups(labels), self.label_space.head_sizes[0], groups)
        if self.sampler.one_set:
            compare = self._among_all(queries, labels, groups, offsets, context)
        else:
            compare = self._among_own(queries, labels, groups, offsets)
        loss, cosine = self._margin_loss([compare], norms, context)
        coverage = jnp.broadcast_to(self._coverage(groups), cosine.shape)
        return loss, {"cosine": cosine, "norm": norms, "coverage": coverage}

    def growing(self):
        return {("weight",): Growing(0, self.label_space.head_sizes[0])}

    def row_strides(self):
        return {"weight": 1}

    def topk(self, features: Features, k: int) -> Best:
        self.check_k(k)
        return all_classes_topk(self, self.weight.reshape(-1, self.features_dim), features, k)

    def linear_scores(self, features: Features, ids: Ids) -> Scores:
        return all_classes_scores(self, self.weight.reshape(-1, self.features_dim), features, ids)

    @property
    def _rows(self):
        """The table by groups, [P, rows, D]."""
        return self.weight if self.sub_centers == 1 else self.weight.reshape(len(self.weight), -1, self.features_dim)

    def _groups(self, labels, key):
        """The groups that a step trains: int [B, K] of each example, or one set [parts, U]."""
        return self.sampler.draw(self._true_groups(labels), self.label_space.head_sizes[0], key)

    def _true_groups(self, labels):
        return labels // self.label_space.strides[0]

    @property
    def _num_competing(self) -> int:
        """Codes below this take part in the loss, free ones too, as classes without examples."""
        return self.label_space.num_classes if self.mask_padding else self.label_space.num_codes

    def _among_all(self, queries, labels, groups, offsets, context):
        """Against the members of one set of groups for the whole batch."""

        def compare(hard):
            weight, visit = self._moving(self._rows, context.visits.get("weight"), hard)
            rows, num_groups = self._num_competing * self.sub_centers, self.label_space.head_sizes[0]
            first_rows, gathered = labels * self.sub_centers, bool(context.blocks)
            among = queries, weight, groups, first_rows, rows, num_groups, gathered, self.margin.scale, hard
            return sharded.group_cosines(*among, self.block_size, visit, offsets, self.sub_centers)

        return compare

    def _among_own(self, queries, labels, groups, offsets):
        """Against the members of each example's own groups [B, K], the true one in slot 0."""
        size = self.label_space.strides[0]
        cosines = sharded.block_logits(self._rows, queries, groups, unit_rows=True)
        cosines = cosines.reshape(*groups.shape, size, self.sub_centers).max(axis=3)
        members = groups[:, :, None] * size + jnp.broadcast_to(jnp.arange(size), cosines.shape)
        competes = (members < self._num_competing) & (members != labels[:, None, None])
        own = jnp.take_along_axis(cosines[:, 0], labels[:, None] % size, axis=1)[:, 0]
        return self._among(cosines, own, competes, 0.0 if offsets is None else offsets[:, :, None])

    def _coverage(self, groups) -> jax.Array:
        num_groups = self.label_space.head_sizes[0]
        if not self.sampler.one_set:
            return jnp.zeros(num_groups).at[groups.reshape(-1)].set(1.0).mean()
        length = -(-num_groups // groups.shape[0])
        own_part = groups // length == jnp.arange(groups.shape[0])[:, None]
        return (own_part & (groups < num_groups)).sum() / num_groups
