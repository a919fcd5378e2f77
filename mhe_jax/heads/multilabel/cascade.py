"""MultiLabelCascadeHead (`mhc`): groups of labels first, then the labels of the best groups (Multi-Head Cascade)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

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
    Scores,
    symmetric_uniform,
)
from mhe_jax.heads.multilabel.checks import check_prior, check_reduction
from mhe_jax.ops import candidates, multilabel, sharded

_FEW = 20  # nodes that are kept where nobody says


class _Beam(NamedTuple):
    """The nodes that are kept at a level, and the labels' own nodes there."""

    nodes: jax.Array  # int [B, K], best first; -1 where there is none
    scores: jax.Array  # float32 [B, K], sums of log-sigmoids on the way
    label_scores: jax.Array  # float32 [B, W], likewise for each label's own node


class _Level(NamedTuple):
    """The children of the kept nodes."""

    logits: jax.Array  # float32 [B, K, n]
    live: jax.Array  # bool [B, K, n]: a child that leads to a label
    slots: jax.Array  # int [B, W]: each label's own node among the K * n, or K * n
    own_logits: jax.Array  # float32 [B, W]: its logit, also where it is not among them


class MultiLabelCascadeHead(Head):
    """A tree of sigmoids over H >= 2 levels: a level scores the children of the best nodes above it.

    In training the nodes of a document's labels are kept by force, and where there are more of them than are kept,
    their children take the places of negative candidates. The loss is the sum over levels of the sigmoid
    cross-entropy over candidates; the score of a label is the product of the sigmoids on its way.

    Parameters: root/{kernel [D, n_0], bias}; per level h >= 1 project_h/{kernel [D, hidden], bias} and
    table_h [n_0 * .. * n_{h-1}, n_h, hidden], split over 'class', a sparse table.

    Source: XMLMHE, the text model of Multi-Head Encoding (arXiv 2412.10182), here for any number of levels.

    Attributes:
      hidden_dim: width of the projected features and of the tables.
      num_candidates: nodes kept at each level in training; 0: 20, and a fifth of a level's nodes where their tables are
        multiplied as a whole in any case (`ops.candidates.dense_is_cheaper`, up to 320 nodes).
      beam_width: nodes kept at each level by rankings; 0: as many as in training.
      use_bias: whether root and projections have a bias.
      mask_padding: whether the places of a short last group stay out of the loss; the published system fills them with
        copies of the row's last candidate. No ranking lists them in either case.
      max_labels: how many labels of a document are positive at the last level, in the order of the data; the groups of
        all of them are. 0 means all, the published system takes 100.
      prior: expected share of the labels that a document has. Each level's logits are then offset by the log-odds of
        that many positives among its candidates, so that training need not first learn that labels are rare: embeddings
        without a bias learn it slowly. 0 offsets nothing, as published.
      reduction: of each level's loss, `mean` over its candidates or `sum`.
    """

    hidden_dim: int = 300
    num_candidates: int = 10
    beam_width: int = 0
    use_bias: bool = True
    mask_padding: bool = True
    max_labels: int = 0
    prior: float = 0.0
    reduction: str = "mean"

    def setup(self):
        check_reduction(self.reduction)
        check_prior(self.prior)
        space = self.label_space
        if space.num_heads < 2:
            raise ValueError(f"config.head.head_sizes {space.head_sizes} has one level: a cascade has at least two")
        if self.hidden_dim < 1 or min(self.num_candidates, self.beam_width, self.max_labels) < 0:
            raise ValueError(
                f"config.head.hidden_dim ({self.hidden_dim}) must be at least 1, and num_candidates "
                f"({self.num_candidates}), beam_width ({self.beam_width}) and max_labels ({self.max_labels}) at least 0"
            )
        self.root = Linear(self.features_dim, space.head_sizes[0], self.use_bias)
        projections, tables = {}, {}
        for level in range(1, space.num_heads):
            projections[level] = Linear(self.features_dim, self.hidden_dim, self.use_bias, name=f"project_{level}")
            xavier = symmetric_uniform(math.sqrt(6 / (space.num_nodes(level) + self.hidden_dim)))
            shape = math.prod(space.head_sizes[:level]), space.head_sizes[level], self.hidden_dim
            tables[level] = self.class_table(f"table_{level}", xavier, *shape)
        self.projections, self.tables = projections, tables

    def sparse_tables(self):
        return tuple(f"table_{level}" for level in range(1, self.label_space.num_heads))

    def owned_tables(self):
        return self.sparse_tables()

    def growing(self):
        return growth.of_tree(self.label_space, {("root", "kernel"): 1, ("root", "bias"): 0})

    def begin(self, params, trained, new):
        return beginning.of_tree(params, self.label_space, trained, new)

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        features, blocks = features.astype(self.dtype), context.blocks
        order = jnp.argsort(labels, axis=1)
        labels, counts = multilabel.sort_labels(labels, self.max_labels)
        in_order = lambda x: None if x is None else jnp.take_along_axis(x, order, axis=1)
        targets, weights = in_order(context.targets), in_order(context.label_weights)
        beam, total = self._start(labels), jnp.zeros(labels.shape[0])
        values: dict[str, jax.Array] = {}
        copy_last = not self.mask_padding and self.label_space.num_classes < self.label_space.num_codes
        for level, stride in enumerate(self.label_space.strides):
            visit = context.visits.get(f"table_{level}")
            scored, nodes = self._score(level, features, beam, labels, blocks, visit), labels // stride
            is_last = level == self._last
            total += multilabel.candidate_bce(
                scored.logits.reshape(labels.shape[0], -1),
                scored.live.reshape(labels.shape[0], -1),
                counts if is_last else multilabel.first_of_each(nodes),
                scored.slots,
                scored.own_logits if self._may_miss(level, labels) else None,
                copy_last,
                self.reduction == "mean",
                targets if is_last else multilabel.of_nodes(nodes, targets),
                weights if is_last else None,
            )
            if level < self._last:
                beam, recall = self._keep(level, beam, scored, labels)
                # Further down the beam has been helped already.
                values = values or {"group_recall": recall}
                if blocks:
                    # The nodes are those of `blocks`, unless a tie was rounded to another one: that is left out.
                    held = blocks[f"table_{level + 1}"]
                    known = multilabel.find_blocks(held, beam.nodes) < held.shape[0]
                    beam = beam._replace(nodes=jnp.where(known, beam.nodes, -1))
        return total, values

    def blocks(self, features: Features, labels: Labels, context: Context = NOTHING) -> dict[str, jax.Array]:
        features = features.astype(self.dtype)
        labels, _ = multilabel.sort_labels(labels)
        beam, result = self._start(labels), {}
        for level in range(self._last):
            beam, _ = self._keep(level, beam, self._score(level, features, beam, labels), labels)
            used, num_blocks = beam.nodes, self.tables[level + 1].shape[0]
            if self._may_miss(level + 1, labels):
                used = jnp.concatenate([used, labels // self.label_space.strides[level]], axis=1)
            # The true nodes of a row come first among the kept, so the larger of the two numbers is enough for both.
            size = min(labels.shape[0] * max(beam.nodes.shape[1], used.shape[1] - beam.nodes.shape[1]), num_blocks)
            used = jnp.where(used < 0, num_blocks, used)
            result[f"table_{level + 1}"] = jnp.unique(used, size=size, fill_value=num_blocks).astype(jnp.int32)
        return result

    def topk(self, features: Features, k: int) -> Best:
        self.check_k(k)
        return self._search(features, self._last, k)

    def group_topk(self, features, k):
        """The k groups (nodes of level 0) of largest score: [B, D] -> int32 [B, k], filled up with -1."""
        return self._search(features, 0, k)[1]

    def scores(self, features: Features, ids: Ids) -> Scores:
        features, ids = features.astype(self.dtype), jnp.maximum(ids, 0)
        groups = jnp.take_along_axis(self.root(features), ids // self.label_space.strides[0], axis=1)
        total = jax.nn.log_sigmoid(groups + self._offset(0))
        for level in range(1, self._last + 1):
            rows, nodes = self.tables[level].reshape(-1, 1, self.hidden_dim), ids // self.label_space.strides[level]
            logits = sharded.block_logits(rows, self._queries(level, features), nodes)
            total += jax.nn.log_sigmoid(logits[:, :, 0] + self._offset(level))
        return total

    def candidate_bytes(self, batch_size: int) -> int:
        """Bytes of the embeddings of all candidates that the documents of a batch score, float32 and without overlap.

        A step with sparse tables holds at most so much of them, and as much again of gradients.
        """
        return sum(4 * batch_size * width * size * self.hidden_dim for width, size in self._candidate_shapes())

    def memory_advice(self, batch_size):
        listed = " and ".join(f"{width} x {size}" for width, size in self._candidate_shapes())
        return (
            f", or config.head.num_candidates: {listed} candidates (groups x their size) of {batch_size} documents are "
            f"up to {self.candidate_bytes(batch_size) / 2**20:,.1f} MiB of embeddings; or make groups smaller with "
            "config.head.head_sizes"
        )

    @property
    def _last(self) -> int:
        return self.label_space.num_heads - 1

    def _offset(self, level) -> float:
        """The log-odds of a candidate of a level to be positive, before anything is learnt."""
        if not self.prior:
            return 0.0
        parents = self._width(level - 1) if level else 1
        # A document has as many true nodes as labels at most, and a level scores every child of what it keeps.
        share = min(0.5, self.prior * self.label_space.num_classes / (parents * self.label_space.head_sizes[level]))
        return math.log(share / (1 - share))

    def _width(self, level) -> int:
        """How many nodes of a level are kept in training."""
        num_nodes, width = self.label_space.num_nodes(level), self.num_candidates or _FEW
        if not self.num_candidates and candidates.dense_is_cheaper(num_nodes, _FEW, self.hidden_dim):
            width = max(_FEW, num_nodes // 5)
        return min(width, num_nodes)

    def _beam_width(self, level) -> int:
        """How many are kept by a ranking."""
        return min(self.beam_width, self.label_space.num_nodes(level)) if self.beam_width else self._width(level)

    def _candidate_shapes(self) -> list[tuple[int, int]]:
        """For each level below the first, how many nodes have their children scored, and how many each has."""
        return [(self._width(level), self.label_space.head_sizes[level + 1]) for level in range(self._last)]

    def _may_miss(self, level, labels) -> bool:
        """Whether a level may lack parents of true nodes, because a row can have more of them than are kept."""
        return level > 0 and self._width(level - 1) < min(labels.shape[1], self.label_space.num_nodes(level - 1))

    def _start(self, labels) -> _Beam:
        """The tree's root, a single node above level 0."""
        nodes = jnp.zeros((labels.shape[0], 1), jnp.int32)
        return _Beam(nodes, jnp.zeros(nodes.shape), jnp.zeros(labels.shape))

    def _search(self, features, last, k) -> tuple[jax.Array, jax.Array]:
        """Log-scores and ids of the best k nodes of level `last`, by a beam."""
        features, nothing = features.astype(self.dtype), jnp.zeros((features.shape[0], 0), jnp.int32)
        beam = self._start(nothing)
        for level in range(last + 1):
            width = k if level == last else self._beam_width(level)
            beam = self._best(beam, self._score(level, features, beam, nothing), width)
        return beam.scores, beam.nodes

    def _score(self, level, features, beam, labels, blocks=None, visit=None) -> _Level:
        """Scores the children of a beam of level - 1."""
        space, nodes = self.label_space, labels // self.label_space.strides[level]
        live = candidates.child_mask(space, level, beam.nodes) & (beam.nodes >= 0)[:, :, None]
        slots = multilabel.find_slots(beam.nodes, nodes, space.head_sizes[level])
        if level == 0:
            logits, missing_logits = self.root(features)[:, None, :], 0.0
        else:
            missing = jnp.where(slots == math.prod(live.shape[1:]), nodes, -1)
            missing = missing if self._may_miss(level, labels) else missing[:, :0]
            logits, missing_logits = self._candidate_logits(level, features, beam.nodes, missing, blocks, visit)
        flat, offset = logits.reshape(logits.shape[0], -1), self._offset(level)
        own_logits = jnp.take_along_axis(flat, slots, axis=1, mode="fill", fill_value=0.0)
        if self._may_miss(level, labels):
            own_logits += missing_logits  # 0 where not missing
        return _Level(logits + offset, live, slots, own_logits + offset)

    def _candidate_logits(self, level, features, parents, missing, blocks, visit):
        table, queries = self.tables[level], self._queries(level, features)
        if not blocks:
            return sharded.candidate_logits(table, queries, parents, missing, visit=visit)
        held, size = blocks[f"table_{level}"], self.label_space.head_sizes[level]
        rows = multilabel.find_blocks(held, missing // size) * size + missing % size
        return sharded.candidate_logits(table, queries, multilabel.find_blocks(held, parents), rows, split=False)

    def _queries(self, level, features):
        return self.projections[level](features).astype(self.dtype)

    def _best(self, beam, scored, width) -> _Beam:
        """The best children of a beam."""
        child_scores = jnp.where(scored.live, jax.nn.log_sigmoid(scored.logits), -jnp.inf)
        scores, nodes = candidates.beam_step(beam.scores, beam.nodes, child_scores, width)
        return _Beam(nodes, scores, beam.label_scores + jax.nn.log_sigmoid(scored.own_logits))

    def _keep(self, level, beam, scored, labels) -> tuple[_Beam, jax.Array]:
        """The best children with the true ones among them by force, and the share of these that needed none."""
        # Which nodes are kept has no gradient; to say so spares autodiff the way there.
        best = self._best(beam, jax.tree.map(jax.lax.stop_gradient, scored), self._width(level))
        nodes = labels // self.label_space.strides[level]
        true_nodes = jnp.where(multilabel.first_of_each(nodes), nodes, -1)
        scores, kept = multilabel.force(best.scores, best.nodes, best.label_scores, true_nodes, self._width(level))
        return _Beam(kept, scores, best.label_scores), multilabel.recall(best.nodes, true_nodes)
