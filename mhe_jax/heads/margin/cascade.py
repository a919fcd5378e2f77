"""CascadeMarginHead: a margin at each level of a tree of classes, coarse to fine (Multi-Head Cascade on cosines)."""

import math

import jax
import jax.numpy as jnp

from mhe_jax.heads import growth
from mhe_jax.heads.base import NOTHING, Best, Context, Features, Ids, Labels, Losses, Scores
from mhe_jax.heads.margin.base import ROW_INIT, MarginHead
from mhe_jax.ops import candidate_logits, candidates, sharded


class CascadeMarginHead(MarginHead):
    """A tree of margin softmaxes: level h compares the features with the n_h children of the true node above it.

    The features are compared as they are, without the projections of `CascadeHead`: an embedding is to be near its
    class at every level. The published system has no such head; the loss is the sum over the levels, as in its cascade.

    Parameters: table_h [n_0 * .. * n_{h-1}, n_h, D] for h = 0 .. H-1; those below level 0 are split over 'class'.

    Attributes:
      beam_width: nodes kept at each level by `topk`.
      mask_padding: whether children without a class stay out of the softmax.
    """

    beam_width: int = 10
    mask_padding: bool = True

    def setup(self):
        if self.beam_width < 1:
            raise ValueError(f"config.head.beam_width is {self.beam_width}; it must be at least 1")
        sizes = self.label_space.head_sizes
        self.root = self.param("table_0", ROW_INIT, (1, sizes[0], self.features_dim), jnp.float32)
        self.tables = {
            level: self.class_table(
                f"table_{level}", ROW_INIT, math.prod(sizes[:level]), sizes[level], self.features_dim
            )
            for level in range(1, len(sizes))
        }

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        """As `MarginHead.loss`; `cosine` is the mean over the levels."""
        labels = jnp.maximum(labels, 0)
        queries, norms = self._normalized(features)
        digits = self.label_space.encode(labels)
        comparisons = []
        for level, parents in enumerate(self._parents(labels)):
            visit = context.visits.get(f"table_{level}")
            cosines = self._cosines(queries, level, parents[:, None], visit)[:, 0]
            is_other = jnp.arange(cosines.shape[1])[None, :] != digits[:, level, None]
            if self.mask_padding:
                is_other &= candidates.child_mask(self.label_space, level, parents)
            own = jnp.take_along_axis(cosines, digits[:, level, None], axis=1)[:, 0]
            comparisons.append(self._among(cosines, own, is_other))
        loss, cosine = self._margin_loss(comparisons, norms, context)
        return loss, {"cosine": cosine, "norm": norms}

    def owned_tables(self):
        return tuple(f"table_{level}" for level in range(1, self.label_space.num_heads))

    def growing(self):
        return growth.of_tree(self.label_space, {("table_0",): 1})

    def row_strides(self):
        return {f"table_{level}": stride for level, stride in enumerate(self.label_space.strides)}

    def topk(self, features: Features, k: int) -> Best:
        self.check_k(k)
        queries, _ = self._normalized(features)
        scores, nodes = jnp.zeros((queries.shape[0], 1)), jnp.zeros((queries.shape[0], 1), jnp.int32)
        last = self.label_space.num_heads - 1
        for level in range(last + 1):
            width = k if level == last else min(self.beam_width, self.label_space.num_nodes(level))
            child_scores = self._child_log_probs(queries, level, nodes)
            scores, nodes = candidates.beam_step(scores, nodes, child_scores, width)
        return scores, nodes

    def linear_scores(self, features: Features, ids: Ids) -> Scores:
        queries, ids = features.astype(self.dtype), jnp.maximum(ids, 0)
        digits, total = self.label_space.encode(ids), jnp.zeros(ids.shape)
        for level, parents in enumerate(self._parents(ids)):
            log_probs = self._child_log_probs(queries, level, parents)
            total += jnp.take_along_axis(log_probs, digits[..., level, None], axis=-1)[..., 0]
        return total

    def _parents(self, ids) -> list[jax.Array]:
        """The node above each level on the way to the classes; above level 0 there is one, 0."""
        return [jnp.zeros_like(ids), *(ids // stride for stride in self.label_space.strides[:-1])]

    def _cosines(self, queries, level, parents, visit=None):
        """Cosines [B, W, n_level] with the children of nodes [B, W]."""
        if level == 0:
            return candidate_logits.block_logits(self.root, queries, parents, unit_rows=True)
        return sharded.block_logits(self.tables[level], queries, parents, unit_rows=True, visit=visit)

    def _child_log_probs(self, queries, level, parents):
        """Log-probabilities of the children that lead to a class, given the parent; -inf for the others."""
        parents = jnp.maximum(parents, 0)  # an empty place in the beam; its own score is -inf
        mask = candidates.child_mask(self.label_space, level, parents)
        logits = self.margin.scale * self._cosines(queries, level, parents)
        return jax.nn.log_softmax(logits, where=mask, axis=-1)
