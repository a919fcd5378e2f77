"""CascadeHead (`mhc`): coarse to fine, each level scores only the children of the nodes kept (Multi-Head Cascade)."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.heads import beginning, growth
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
    Ranked,
    Scores,
    check_smoothing,
    log_mean_exp,
    symmetric_uniform,
)
from mhe_jax.heads.softmax import from_one_hot
from mhe_jax.ops import candidates, losses, multilabel, sharded
from mhe_jax.ops.storage import store

OBJECTIVES = ("path", "candidates")


class CascadeHead(Head):
    """A tree of classes of H levels: head 0 scores its digits, level h the n_h children of a node of level h - 1.

    With s_h(x, node) the logit of a node of level h, and a_h the sum of the logits on the way to it,

    `path`: each level is a softmax of s_h over the children of the true node above it (teacher forcing), so that the
    loss is -log p(class). A lower level never sees a wrong node, and cannot overrule the level above it.

    `candidates`: each level is one softmax of a_h over the children of the `num_candidates` best nodes above it, the
    true one among them by force. Where all nodes are kept the last level is the softmax over all classes with a sum of
    logits for each.

    The loss is in both cases the sum of the levels' cross-entropies, weights 1, and a ranking is a beam search: over
    log-probabilities of the path, exact where the beam never drops an ancestor; or over the sums a_h, normalised over
    the children of the beam's last nodes. The score of a class whose node is not in that beam is what it would be if
    the class alone were added to the candidates: log-probabilities are then comparable, but add up to more than 1.

    Parameters: root/{kernel [D, n_0], bias}; per level h >= 1 project_h/{kernel [D, hidden], bias} and
    table_h [n_0 * .. * n_{h-1}, n_h, hidden], split over 'class'.

    Attributes:
      hidden_dim: width of the projected features and of the tables.
      objective: one of `OBJECTIVES`; the published system trains the path.
      num_candidates: of 'candidates', nodes of each level whose children compete in training.
      beam_width: nodes kept at each level by rankings; 1 is the reference's greedy search.
      use_bias: whether root and projections have a bias.
      mask_padding: whether children without a class stay out of the loss's softmax; the reference lets them in.
      label_smoothing: probability of each level's softmax spread evenly over what competes in it, in [0, 1).
    """

    hidden_dim: int = 256
    objective: str = "path"
    num_candidates: int = 10
    beam_width: int = 10
    use_bias: bool = True
    mask_padding: bool = True
    label_smoothing: float = 0.0

    def setup(self):
        check_smoothing(self.label_smoothing)
        if self.objective not in OBJECTIVES:
            raise ValueError(f"config.head.objective is {self.objective!r}; it must be one of {', '.join(OBJECTIVES)}")
        if min(self.hidden_dim, self.num_candidates, self.beam_width) < 1:
            raise ValueError(
                f"config.head.hidden_dim ({self.hidden_dim}), num_candidates ({self.num_candidates}) and beam_width "
                f"({self.beam_width}) must be at least 1"
            )
        if not self._is_joint and self.num_candidates != CascadeHead.num_candidates:
            raise ValueError(
                f"config.head.num_candidates is {self.num_candidates}, but config.head.objective 'path' trains no "
                "candidates: use 'candidates'"
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

    def from_one_hot(self, params: dict, one_hot: dict) -> dict:
        columns = [one_hot["kernel"], one_hot["bias"][:, None]] if self.use_bias else [one_hot["kernel"]]
        rows = jnp.concatenate(columns, axis=1)[: self.label_space.num_classes]
        found, dim = dict(params), self.features_dim
        for level, (linear, table) in enumerate(from_one_hot.cascade(rows, self.label_space, self.hidden_dim)):
            of_map = {"kernel": linear[:dim], **({"bias": linear[dim]} if self.use_bias else {})}
            found[f"project_{level}" if level else "root"] = of_map
            if table is not None:
                name = f"table_{level}"
                missing = params[name].shape[0] - table.shape[0]
                found[name] = store(jnp.pad(table, ((0, missing), (0, 0), (0, 0))), self.storage_of(name))
        return found

    def owned_tables(self):
        return tuple(f"table_{level}" for level in range(1, self.label_space.num_heads))

    def growing(self):
        return growth.of_tree(self.label_space, {("root", "kernel"): 1, ("root", "bias"): 0})

    def begin(self, params, trained, new):
        return beginning.of_tree(params, self.label_space, trained, new)

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        targets = context.targets
        if targets is not None and not self._is_joint:
            # Each label has a path of its own.
            repeated, alone = jnp.repeat(features, labels.shape[1], axis=0), dataclasses.replace(context, targets=None)
            each, _ = self.loss(repeated, labels.reshape(-1), alone)
            return (targets * each.reshape(labels.shape)).sum(axis=1), {}
        features, batch = features.astype(self.dtype), labels.shape[0]
        # Of soft labels the first is the one whose nodes are kept by force.
        soft = labels
        labels = labels if targets is None else labels[:, 0]
        labels = jnp.where(labels < 0, self.label_space.first_live, labels)
        digits, total = self.label_space.encode(labels), jnp.zeros(batch)
        nodes, above = self._start(batch)
        for level, stride in enumerate(self.label_space.strides):
            logits = self._child_logits(features, level, nodes, context.visits.get(f"table_{level}"))
            if self._is_joint:
                logits += above[:, :, None]
            live = candidates.child_mask(self.label_space, level, nodes) & (nodes >= 0)[:, :, None]
            competes = live if self.mask_padding else jnp.broadcast_to((nodes >= 0)[:, :, None], live.shape)
            adjusted = logits
            if context.adjustment is not None:
                adjusted += self._adjusted(context.adjustment[level], nodes, live.shape[2])
            flat, mask = context.cooled(adjusted).reshape(batch, -1), competes.reshape(batch, -1)
            if targets is None:
                # The true node is in slot 0, so the label's place is its digit.
                total += losses.softmax_cross_entropy(flat, digits[:, level], mask, self.label_smoothing)
            else:
                slots = multilabel.find_slots(nodes, soft // stride, live.shape[2])
                total += losses.soft_cross_entropy(flat, slots, targets, mask, self.label_smoothing)
            if not self._is_joint:
                nodes = (labels // stride)[:, None]
            elif level < self._last:
                width = min(self.num_candidates, self.label_space.num_nodes(level), nodes.shape[1] * live.shape[2])
                above, nodes = candidates.keep_true(logits, live, nodes, digits[:, level], width)
        return total, {}

    def adjustment(self, log_prior: np.ndarray) -> tuple[np.ndarray, ...]:
        """For each level, that of its nodes: the logarithm of the mean prior of a node's classes, without free codes.

        The nodes of the last level are the classes, so that it is exact among those that compete there.
        """
        ids = self.label_space.live_codes
        codes, strides = self.label_space.num_codes, self.label_space.strides
        return tuple(log_mean_exp(log_prior[ids], ids // stride, codes // stride) for stride in strides)

    def topk(self, features: Features, k: int) -> Best:
        self.check_k(k)
        return self._best(self._search(features.astype(self.dtype)), k)

    def scores(self, features: Features, ids: Ids) -> Scores:
        features, ids = features.astype(self.dtype), jnp.maximum(ids, 0)
        return self._joint_scores(features, ids) if self._is_joint else self._path_scores(features, ids)

    def topk_and_scores(self, features: Features, k: int, ids: Ids) -> Ranked:
        if not self._is_joint:
            return (*self.topk(features, k), self.scores(features, ids))
        self.check_k(k)
        features = features.astype(self.dtype)
        found = self._search(features)
        return (*self._best(found, k), self._joint_scores(features, jnp.maximum(ids, 0), found))

    @property
    def _is_joint(self) -> bool:
        return self.objective == "candidates"

    @property
    def _last(self) -> int:
        return self.label_space.num_heads - 1

    def _start(self, batch):
        """The tree's root, a single node above level 0: nodes and their scores [B, 1]."""
        return jnp.zeros((batch, 1), jnp.int32), jnp.zeros((batch, 1))

    def _search(self, features):
        """The beam above the last level: nodes [B, W], and the scores of their children [B, W, n]; -inf for none."""
        nodes, scores = self._start(features.shape[0])
        for level in range(self._last):
            width = min(self.beam_width, self.label_space.num_nodes(level))
            scores, nodes = candidates.beam_step(scores, nodes, self._child_scores(features, level, nodes), width)
        return nodes, scores[:, :, None] + self._child_scores(features, self._last, nodes)

    def _best(self, found, k) -> Best:
        nodes, child_scores = found
        best, ids = candidates.beam_step(jnp.zeros(nodes.shape), nodes, child_scores, k)
        if self._is_joint:
            best = jnp.where(ids < 0, -jnp.inf, best - _log_sum(child_scores)[:, None])
        return best, ids

    def _path_scores(self, features, ids):
        digits, total = self.label_space.encode(ids), jnp.zeros(ids.shape)
        parents = [jnp.zeros_like(ids), *(ids // stride for stride in self.label_space.strides[:-1])]
        for level, nodes in enumerate(parents):
            log_probs = self._child_scores(features, level, nodes)
            total += jnp.take_along_axis(log_probs, digits[..., level, None], axis=-1)[..., 0]
        return total

    def _joint_scores(self, features, ids, found=None):
        beam, child_scores = found or self._search(features)
        logits = jnp.take_along_axis(self.root(features), ids // self.label_space.strides[0], axis=1)
        for level in range(1, self._last + 1):
            rows, nodes = self.tables[level].reshape(-1, 1, self.hidden_dim), ids // self.label_space.strides[level]
            logits += sharded.block_logits(rows, self._queries(features, level), nodes)[:, :, 0]
        parents = ids // self.label_space.head_sizes[-1]
        in_beam = (parents[:, :, None] == beam[:, None, :]).any(axis=2)
        log_sum = _log_sum(child_scores)[:, None]
        return logits - jnp.where(in_beam, log_sum, jnp.logaddexp(log_sum, logits))

    @staticmethod
    def _adjusted(of_nodes, parents, size):
        """What the children of parents [B, W] are raised by, [B, W, size]; of nodes [N] of their level."""
        return jnp.asarray(of_nodes).reshape(-1, size)[jnp.maximum(parents, 0)]

    def _queries(self, features, level):
        return self.projections[level](features).astype(self.dtype)

    def _child_logits(self, features, level, parents, visit=None):
        """Logits [B, W, n_level] of the children of nodes [B, W] of the level above; above level 0 is one node, 0."""
        if level == 0:
            root = self.root(features)[:, None, :]
            return jnp.broadcast_to(root, (*parents.shape, root.shape[-1]))
        return sharded.block_logits(self.tables[level], self._queries(features, level), parents, visit=visit)

    def _child_scores(self, features, level, parents):
        """What a child that leads to a class adds to its parent's score, [B, W, n_level]; -inf for the others.

        Its log-probability given the parent on a path, its logit else.
        """
        parents = jnp.maximum(parents, 0)  # an empty place in the beam; its own score is -inf
        mask = candidates.child_mask(self.label_space, level, parents)
        logits = self._child_logits(features, level, parents)
        if self._is_joint:
            return jnp.where(mask, logits, -jnp.inf)
        return jax.nn.log_softmax(logits, where=mask, axis=-1)


def _log_sum(scores):
    """Over all children of a beam: [B, W, n] -> [B]."""
    return jax.nn.logsumexp(scores, axis=(1, 2))
