"""CascadeHead (`mhc`): coarse to fine, each level scores only the children of the nodes kept (Multi-Head Cascade)."""

import math

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import (
    NOTHING,
    Best,
    Context,
    Features,
    Head,
    Ids,
    Labels,
    Linear,
    Losses,
    Scores,
    check_smoothing,
    symmetric_uniform,
)
from mhe_jax.ops import candidates, losses, sharded


class CascadeHead(Head):
    """A tree of H softmaxes: head 0 over its digits, level h over the n_h children of a node of level h - 1.

    Training follows the true path (teacher forcing): one cross-entropy per level, weights 1, so that the loss is
    -log p(class). Inference is a beam search; its top-k is exact where the beam never drops an ancestor.

    Parameters: root/{kernel [D, n_0], bias}; per level h >= 1 project_h/{kernel [D, hidden], bias} and
    table_h [n_0 * .. * n_{h-1}, n_h, hidden], split over 'class'.

    Attributes:
      hidden_dim: width of the projected features and of the tables.
      beam_width: nodes kept at each level; 1 is the reference's greedy search.
      use_bias: whether root and projections have a bias.
      mask_padding: whether children without a class stay out of the loss's softmax; the reference lets them in.
      label_smoothing: probability of each level's softmax spread evenly over its children, in [0, 1).
    """

    hidden_dim: int = 256
    beam_width: int = 10
    use_bias: bool = True
    mask_padding: bool = True
    label_smoothing: float = 0.0

    def setup(self):
        check_smoothing(self.label_smoothing)
        if self.hidden_dim < 1 or self.beam_width < 1:
            raise ValueError(
                f"config.head.hidden_dim ({self.hidden_dim}) and beam_width ({self.beam_width}) must be at least 1"
            )
        sizes = self.label_space.head_sizes
        self.root = Linear(self.features_dim, sizes[0], self.use_bias)
        projections, tables = {}, {}
        for level in range(1, len(sizes)):
            projections[level] = Linear(self.features_dim, self.hidden_dim, self.use_bias, name=f"project_{level}")
            nodes = math.prod(sizes[:level])
            xavier = symmetric_uniform(math.sqrt(6 / (nodes * sizes[level] + self.hidden_dim)))
            tables[level] = self.class_table(f"table_{level}", xavier, nodes, sizes[level], self.hidden_dim)
        self.projections, self.tables = projections, tables

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        features = features.astype(self.dtype)
        labels = jnp.maximum(labels, 0)
        digits, nodes = self.label_space.encode(labels), self._path(labels)
        total = jnp.zeros(labels.shape[0])
        for level in range(self.label_space.num_heads):
            parents = nodes[level - 1] if level else jnp.zeros_like(labels)
            logits = self._child_logits(features, level, parents[:, None])[:, 0]
            mask = candidates.child_mask(self.label_space, level, parents) if self.mask_padding else None
            total += losses.softmax_cross_entropy(logits, digits[:, level], mask, self.label_smoothing)
        return total, {}

    def topk(self, features: Features, k: int) -> Best:
        self.check_k(k)
        features = features.astype(self.dtype)
        last = self.label_space.num_heads - 1
        # The beam starts at the tree's root, a single node above level 0.
        scores, nodes = jnp.zeros((features.shape[0], 1)), jnp.zeros((features.shape[0], 1), jnp.int32)
        for level in range(last + 1):
            width = k if level == last else min(self.beam_width, self.label_space.num_nodes(level))
            child_scores = self._child_log_probs(features, level, nodes)
            scores, nodes = candidates.beam_step(scores, nodes, child_scores, width)
        return scores, nodes

    def scores(self, features: Features, ids: Ids) -> Scores:
        features, ids = features.astype(self.dtype), jnp.maximum(ids, 0)
        digits, nodes = self.label_space.encode(ids), self._path(ids)
        total = jnp.zeros(ids.shape)
        for level in range(self.label_space.num_heads):
            parents = nodes[level - 1] if level else jnp.zeros_like(ids)
            log_probs = self._child_log_probs(features, level, parents)
            total += jnp.take_along_axis(log_probs, digits[..., level, None], axis=-1)[..., 0]
        return total

    def _path(self, ids) -> list[jax.Array]:
        """The node of each level on the way to the classes."""
        return [ids // stride for stride in self.label_space.strides]

    def _child_logits(self, features, level, parents):
        """Logits [B, W, n_level] of the children of nodes [B, W] of the level above; above level 0 is one node, 0."""
        if level == 0:
            root = self.root(features)[:, None, :]
            return jnp.broadcast_to(root, (*parents.shape, root.shape[-1]))
        queries = self.projections[level](features).astype(self.dtype)
        return sharded.block_logits(self.tables[level], queries, parents)

    def _child_log_probs(self, features, level, parents):
        """Log-probabilities of the children that lead to a class, given the parent; -inf for the others."""
        parents = jnp.maximum(parents, 0)  # an empty place in the beam; its own score is -inf
        mask = candidates.child_mask(self.label_space, level, parents)
        return jax.nn.log_softmax(self._child_logits(features, level, parents), where=mask, axis=-1)
