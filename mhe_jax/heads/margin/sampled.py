"""SampledMarginHead: a margin softmax over some groups of classes per step (MHS-ArcFace, PartialFC)."""

import jax
import jax.numpy as jnp

from mhe_jax.heads.margin.base import ROW_INIT, MarginHead, all_classes_scores, all_classes_topk
from mhe_jax.ops import sampling, sharded

SAMPLERS = ("batch_union", "random_groups", "positive_only", "per_example")


class SampledMarginHead(MarginHead):
    """A margin softmax over the true groups of classes and perhaps others; groups are classes that share digit 0.

    With head_sizes (C, 1) a group is a single class, and `random_groups` is PartialFC (arXiv 2203.15565). Where the
    sampler draws one set for the whole batch, the table is a sparse one: a step may update the sampled rows alone.

    Parameters: weight [n_0, n_1 * .. * n_{H-1}, D], split over 'class'.

    Attributes:
      sampler: `batch_union`, the true groups of the batch (ArcFaceMHS_B1 of the published system); `random_groups`,
        those and others, `sample_rate` of all; `positive_only`, of each example its own group (ArcFaceMHS);
        `per_example`, that and `num_groups - 1` random others (ArcFaceMHS_V2 with two).
      num_groups: groups per example of `per_example`.
      sample_rate: fraction of the groups that `random_groups` uses; true groups beyond it are all kept.
      sample_parts: equal parts of the table from which `batch_union` and `random_groups` draw apart, a multiple of the
        devices along 'class'; 0: as many as these. With the same number a run draws the same on every mesh.
      block_size: classes per block; 0 chooses one that keeps a block of cosines within 64 MiB.
      mask_padding: whether members that are no class stay out of the softmax; the published heads let them in.
    """

    sampler: str = "batch_union"
    num_groups: int = 2
    sample_rate: float = 0.1
    sample_parts: int = 0
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
        if self.sample_parts < 0 or self.sample_parts % self.class_shards:
            raise ValueError(
                f"config.head.sample_parts is {self.sample_parts}; it must be 0 or a multiple of the "
                f"{self.class_shards} devices along mesh axis 'class'"
            )
        shape = (self.label_space.head_sizes[0], self.label_space.strides[0], self.features_dim)
        self.weight = self.class_table("weight", ROW_INIT, *shape)

    @property
    def table_parts(self):
        return self.sample_parts or self.class_shards

    @property
    def _one_set(self) -> bool:
        """Whether the sampler draws one set of groups for the whole batch."""
        return self.sampler in ("batch_union", "random_groups")

    def sparse_tables(self):
        return ("weight",) if self._one_set else ()

    def sample_groups(self, labels, key=None) -> jax.Array:
        """The groups that a step trains: int [B, K] of each example, or one set [parts, U], see `ops.sampling`."""
        groups, num_groups = labels // self.label_space.strides[0], self.label_space.head_sizes[0]
        if self.sampler == "positive_only":
            return sampling.positive_only(groups)
        if key is None and self.sampler != "batch_union":
            raise ValueError(f"config.head.sampler {self.sampler!r} draws at random: loss needs a key")
        if self.sampler == "per_example":
            return sampling.per_example(key, groups, num_groups, min(self.num_groups, num_groups))
        rate = self.sample_rate if self.sampler == "random_groups" else 0.0
        return sampling.parted_groups(key, groups, num_groups, self.table_parts, rate)

    def blocks(self, features, labels, key=None):
        return {"weight": self.sample_groups(jnp.maximum(labels, 0), key)} if self._one_set else {}

    def loss(self, features, labels, key=None, statistics=None, weight=None, blocks=None):
        """As `MarginHead.loss`, with the metric `coverage`: the share of the groups that the batch trains."""
        labels = jnp.maximum(labels, 0)
        groups = blocks["weight"] if blocks else self.sample_groups(labels, key)
        queries, norms = self._normalized(features)
        if self._one_set:
            compare = self._among_all(queries, labels, groups, gathered=bool(blocks))
        else:
            compare = self._among_own(queries, labels, groups)
        loss, cosine = self._margin_loss([compare], norms, statistics, weight)
        coverage = jnp.broadcast_to(self._coverage(groups), cosine.shape)
        return loss, {"cosine": cosine, "norm": norms, "coverage": coverage}

    def topk(self, features, k):
        self.check_k(k)
        return all_classes_topk(self, self.weight.reshape(-1, self.features_dim), features, k)

    def scores(self, features, ids):
        return all_classes_scores(self, self.weight.reshape(-1, self.features_dim), features, ids)

    @property
    def _num_competing(self) -> int:
        """Codes below this take part in the loss."""
        return self.label_space.num_classes if self.mask_padding else self.label_space.num_codes

    def _among_all(self, queries, labels, groups, gathered):
        """Against the members of one set of groups for the whole batch."""
        return lambda hard: sharded.group_cosines(
            queries,
            self.weight,
            groups,
            labels,
            self._num_competing,
            self.label_space.head_sizes[0],
            gathered,
            self.margin.scale,
            hard,
            self.block_size,
            self.class_shards,
        )

    def _among_own(self, queries, labels, groups):
        """Against the members of each example's own groups [B, K], the true one in slot 0."""
        size = self.label_space.strides[0]
        cosines = sharded.block_cosines(self.weight, queries, groups, self.class_shards)
        members = groups[:, :, None] * size + jnp.broadcast_to(jnp.arange(size), cosines.shape)
        competes = (members < self._num_competing) & (members != labels[:, None, None])
        own = jnp.take_along_axis(cosines[:, 0], labels[:, None] % size, axis=1)[:, 0]

        return self._among(cosines, own, competes)

    def _coverage(self, groups) -> jax.Array:
        num_groups = self.label_space.head_sizes[0]
        if not self._one_set:
            return jnp.zeros(num_groups).at[groups.reshape(-1)].set(1.0).mean()
        length = -(-num_groups // groups.shape[0])
        own_part = groups // length == jnp.arange(groups.shape[0])[:, None]
        return (own_part & (groups < num_groups)).sum() / num_groups
