"""Several labels per document: on their way down a tree of nodes, in the loss of one of its levels, in a softmax.

A level scores the children of the nodes that were kept above it. In training the true nodes are kept by force, and a
true child whose parent is not kept all the same, because a document has more true nodes than are kept, takes the place
of a negative one. Everything here has static shapes: documents have as many true nodes as fit, -1 where there is none.

Source: candidate selection and positive injection of the Multi-Head Cascade for texts (Anoise/MHE), which follows
LightXML (Jiang et al., AAAI 2021), there in a loop over documents.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int

from mhe_jax.ops import losses, per_row


def sort_labels(
    labels: Int[Array, "batch width"], max_labels: int = 0
) -> tuple[Int[Array, "batch width"], Bool[Array, "batch width"]]:
    """Labels in ascending order, and which of them count.

    Args:
      labels: int [B, W], -1 where there is none.
      max_labels: how many labels of each row count, in the given order; 0 means all of them.

    Returns:
      int [B, W], -1 first, and bool [B, W].
    """
    counts = labels >= 0
    if max_labels:
        counts &= jnp.cumsum(counts, axis=1) <= max_labels
    order = jnp.argsort(labels, axis=1)
    return jnp.take_along_axis(labels, order, axis=1), jnp.take_along_axis(counts, order, axis=1)


def first_of_each(nodes: Int[Array, "batch width"]) -> Bool[Array, "batch width"]:
    """Marks each distinct node once: ascending int [B, W], -1 where there is none -> bool [B, W]."""
    return jnp.diff(nodes, axis=1, prepend=-1) != 0


def of_nodes(
    nodes: Int[Array, "batch width"], targets: Float[Array, "batch width"] | None
) -> Float[Array, "batch width"] | None:
    """The target of each label's node, the highest among the labels below it; None where all are 1."""
    if targets is None:
        return None
    same = nodes[:, :, None] == nodes[:, None, :]
    return jnp.where(same, targets[:, None, :], 0.0).max(axis=2)


def find_slots(
    parents: Int[Array, "batch kept"], nodes: Int[Array, "batch width"], size: int
) -> Int[Array, "batch width"]:
    """Where nodes are among the children of their candidates' parents.

    Args:
      parents: int [B, K], each with `size` children in a row; -1 where there is none.
      nodes: int [B, W], -1 where there is none.
      size: children per parent.

    Returns:
      int [B, W] into K * size; K * size for nodes whose parent is not there.
    """
    match = (nodes // size)[:, :, None] == parents[:, None, :]
    found = match.any(axis=2) & (nodes >= 0)
    return jnp.where(found, match.argmax(axis=2) * size + nodes % size, parents.shape[1] * size)


def find_blocks(held: Int[Array, "used"], ids: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Places of block ids in an ascending list: int [U], int [...] -> int [...] into U; U for those not in it."""
    at = jnp.searchsorted(held, ids, method="scan_unrolled")
    return jnp.where(jnp.take(held, at, mode="clip") == ids, at, held.shape[0])


def force(
    scores: Float[Array, "batch kept"],
    nodes: Int[Array, "batch kept"],
    true_scores: Float[Array, "batch true"],
    true_nodes: Int[Array, "batch true"],
    width: int,
) -> tuple[Float[Array, "batch {width}"], Int[Array, "batch {width}"]]:
    """The best nodes when true ones count 1 more: all true ones if they fit, by score, and then the best others.

    Args:
      scores: float [B, K], the logarithm of scores in 0 .. 1; -inf where there is no node.
      nodes: int [B, K], at least the `width` best.
      true_scores: float [B, W], likewise.
      true_nodes: int [B, W], distinct, -1 where there is none.
      width: how many to keep, at most K.

    Returns:
      `(scores, nodes)` [B, width], without the 1; -inf and -1 where there are fewer.
    """
    repeated = (nodes[:, :, None] == true_nodes[:, None, :]).any(axis=2)
    true_ranks = jnp.where(true_nodes < 0, -jnp.inf, 1.0 + jnp.exp(true_scores))
    ranks = jnp.concatenate([true_ranks, jnp.where(repeated, -jnp.inf, scores)], axis=1)  # logarithms are below 1
    best, at = per_row.top_k(ranks, width)
    take = lambda x, y: jnp.take_along_axis(jnp.concatenate([x, y], axis=1), at, axis=1)
    empty = best == -jnp.inf
    return jnp.where(empty, -jnp.inf, take(true_scores, scores)), jnp.where(empty, -1, take(true_nodes, nodes))


def recall(nodes: Int[Array, "batch kept"], true_nodes: Int[Array, "batch width"]) -> Float[Array, "batch"]:
    """Share of the true nodes that are among nodes: int [B, K], int [B, W], -1 for none -> [B]; 1 if none is true."""
    found = (nodes[:, None, :] == true_nodes[:, :, None]).any(axis=2) & (true_nodes >= 0)
    count = (true_nodes >= 0).sum(axis=1)
    return jnp.where(count > 0, found.sum(axis=1) / jnp.maximum(count, 1), 1.0)


def candidate_bce(
    logits: Float[Array, "batch places"],
    live: Bool[Array, "batch places"],
    positive: Bool[Array, "batch width"],
    slots: Int[Array, "batch width"],
    own_logits: Float[Array, "batch width"] | None = None,
    copy_last: bool = False,
    mean: bool = True,
    targets: Float[Array, "batch width"] | None = None,
    label_weights: Float[Array, "batch width"] | None = None,
) -> Float32[Array, "batch"]:
    """Sigmoid cross-entropy over candidates, into which the positives that are not among them are injected.

    A missing positive takes the place of the first candidate that is negative, the next one that of the second.

    Args:
      logits: float [B, M], of the candidates in the order of their rank.
      live: bool [B, M]; False where a place holds no candidate.
      positive: bool [B, W], which of the labels below count.
      slots: int [B, W], their places; M where they are missing.
      own_logits: float [B, W], the labels' own logits; None if none can be missing.
      copy_last: the published padding: rows are filled up to the longest of the batch with copies of their last
        candidate, which count as it does. As there, a row is not injected if its copies of a positive make up for the
        missing ones in number.
      mean: whether the mean over the places is returned, or the sum.
      targets: in 0 .. 1, of the labels below; None: 1 each.
      label_weights: of the positive parts of their terms; None: 1 each.

    Returns:
      float32 [B].
    """
    found, missing = positive & (slots < logits.shape[1]), positive & (slots >= logits.shape[1])
    put = jax.vmap(lambda row, at: row.at[at].set(True, mode="drop"))
    hot = put(jnp.zeros(logits.shape, bool), jnp.where(found, slots, logits.shape[1]))
    free = live & ~hot
    width, weights, room = live.sum(axis=1), live.astype(jnp.float32), free.sum(axis=1)
    num_missing = missing.sum(axis=1)

    if copy_last:
        last = live.shape[1] - 1 - jnp.argmax(live[:, ::-1], axis=1)[:, None]
        copies = width.max() - width
        copies_hot = jnp.take_along_axis(hot, last, axis=1)[:, 0]
        num_missing = jnp.where(copies_hot & (copies == num_missing), 0, num_missing)
        # Copies stand last, so they are overwritten last, and not at all if they are positive.
        left = jnp.where(copies_hot, copies, copies - jnp.clip(num_missing - room, 0, copies))
        width, room = width + copies, room + jnp.where(copies_hot, 0, copies)
    if own_logits is not None:
        weights = jnp.where(free & (jnp.cumsum(free, axis=1) <= num_missing[:, None]), 0.0, weights)
    if copy_last:
        weights = jax.vmap(lambda row, at, more: row.at[at].add(more))(weights, last[:, 0], left.astype(jnp.float32))

    def of_label(x, target, weight):
        """-w t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)) = (w t + 1 - t) softplus(-x) + (1 - t) x."""
        found = jax.nn.softplus(-x)
        if target is None:
            return found if weight is None else weight * found
        found = found if weight is None else (weight * target + 1 - target) * found
        return found + (1 - target) * x

    def by_place(values):
        """[B, W] -> [B, M]; anything where no label is."""
        put = jax.vmap(lambda row, at, value: row.at[at].set(value, mode="drop"))
        places = jnp.where(found, slots, logits.shape[1])
        return None if values is None else put(jnp.zeros(logits.shape), places, values)

    of_hot = of_label(logits, by_place(targets), by_place(label_weights))
    loss = (weights * jnp.where(hot, of_hot, jax.nn.softplus(logits))).sum(axis=1)
    if own_logits is not None:
        injected = missing & (jnp.cumsum(missing, axis=1) <= jnp.minimum(num_missing, room)[:, None])
        loss += jnp.where(injected, of_label(own_logits, targets, label_weights), 0.0).sum(axis=1)
    return loss / width if mean else loss


def shares(
    labels: Int[Array, "batch width"],
    targets: Float[Array, "batch width"] | None,
    weights: Float[Array, "batch width"] | None,
) -> Float32[Array, "batch width"]:
    """How much each label counts: its grade, 1 without `targets`, times its weight; 0 where there is none (-1)."""
    found = (labels >= 0).astype(jnp.float32)
    found = found if targets is None else found * targets
    return found if weights is None else found * weights


def pick_all_labels(
    lse: Float[Array, "batch"],
    target: Float[Array, "batch"],
    labels: Int[Array, "batch width"],
    mean: bool,
    total: Float[Array, "batch"] | float = 0.0,
    num_valid: Int[Array, "*#batch"] | int = 1,
    label_smoothing: float = 0.0,
    shares: Float[Array, "batch width"] | None = None,
    mass: Float[Array, "batch"] | None = None,
) -> Float32[Array, "batch"]:
    """Softmax cross-entropy of each label of a document against all classes, added up or averaged.

    >>> lse, target = jnp.full(1, 3.0), jnp.full(1, 2.0 + 1.0)
    >>> pick_all_labels(lse, target, jnp.array([[4, 8, -1]]), mean=False).tolist()
    [3.0]

    The sum is minimised by the order that is best for precision at k, the mean by that for recall at k.

    Args:
      lse: float [B], log-sum-exp over the classes that compete.
      target: float [B], the sum of the labels' logits, each times its share.
      labels: int [B, W], -1 where there is none.
      mean: whether the cross-entropies are averaged.
      total: as in `losses.smoothed_cross_entropy`, and the next two.
      num_valid: at least 1.
      label_smoothing: in 0 .. 1.
      shares: float [B, W], see `shares`; None: each label counts 1.
      mass: float [B], what `mean` divides by, the sum of the shares without weights, which would cancel; None: with.

    Returns:
      float32 [B]; 0 for a document without labels.

    Source: PAL and, with `mean`, PAL-N of Menon et al., Multilabel reductions (NeurIPS 2019).
    """
    counts = (labels >= 0).sum(axis=1) if shares is None else shares.sum(axis=1)
    target = target / jnp.where(counts > 0, counts, 1.0)
    average = losses.smoothed_cross_entropy(lse, target, total, num_valid, label_smoothing)
    if mean and mass is not None:
        counts, mean = counts / jnp.where(mass > 0, mass, 1.0), False
    return jnp.where(counts > 0, average if mean else counts * average, 0.0)
