"""Contiguous blocks of classes: the children of a node.

Because siblings are contiguous in the mixed-radix code, a table of classes is an array [blocks, siblings, D], and
choosing candidates is one gather of whole blocks, without lists of ids.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mhe_jax.labels import LabelSpace
from mhe_jax.ops import per_row

# A gathered element is written and read back, a dense one is only multiplied. On CPUs and GPUs alike the product over
# all blocks is the cheaper way up to some tens of blocks per gathered one, forward and backward together: rows are read
# once, in order, and no gradient is scattered.
_DENSE_PER_GATHERED = 16


def dense_is_cheaper(num_blocks: int, width: int, dim: int) -> bool:
    """Whether to multiply with all blocks [num_blocks, n, dim] rather than gather `width` of them for each query."""
    return num_blocks <= min(_DENSE_PER_GATHERED, dim) * width  # `dim`: never more memory than the gathered rows


def child_mask(label_space: LabelSpace, level: int, parents: Int[Array, "*shape"]) -> Bool[Array, "*shape size"]:
    """Which children at `level` of given nodes lead to a class: int [...] nodes of level - 1 -> bool [..., n_level].

    >>> child_mask(LabelSpace(5, (2, 3)), 1, jnp.array([0, 1])).tolist()
    [[True, True, True], [True, True, False]]

    Node ids are prefixes read as numbers, so the nodes that lead to classes are the first `num_nodes(level)`, without
    those whose codes are all free.
    """
    size = label_space.head_sizes[level]
    children = parents[..., None] * size + jnp.broadcast_to(jnp.arange(size), (*parents.shape, size))
    return label_space.leads_to_class(level, children)


def beam_step(
    scores: Float[Array, "batch beam"],
    nodes: Int[Array, "batch beam"],
    child_scores: Float[Array, "batch beam size"],
    width: int,
) -> tuple[Float[Array, "batch {width}"], Int[Array, "batch {width}"]]:
    """Keeps the best children of a beam.

    >>> children = jnp.log(jnp.array([[[0.9, 0.1], [0.5, 0.5]]]))
    >>> scores, nodes = beam_step(jnp.log(jnp.array([[0.6, 0.4]])), jnp.array([[3, 1]]), children, width=2)
    >>> jnp.allclose(jnp.exp(scores), jnp.array([[0.54, 0.2]])).item(), nodes.tolist()
    (True, [[6, 2]])

    Args:
      scores: float [B, W] log-probabilities of the beam's nodes; -inf where there is no node.
      nodes: int [B, W]; -1 where there is no node.
      child_scores: float [B, W, n] log-probabilities of children given their parent, -inf for padding.
      width: how many to keep.

    Returns:
      `(scores, nodes)` [B, width], best first, filled up with -inf and -1. A score that is no number keeps no node.
    """
    batch, _, size = child_scores.shape
    joint = (scores[:, :, None] + child_scores).reshape(batch, -1)
    best, at = per_row.top_k(joint, min(width, joint.shape[1]))
    children = jnp.take_along_axis(nodes, at // size, axis=1) * size + at % size
    missing = ((0, 0), (0, width - best.shape[1]))
    best = jnp.pad(best, missing, constant_values=-jnp.inf)
    return best, jnp.where(best == -jnp.inf, -1, jnp.pad(children, missing))


def keep_true(
    logits: Float[Array, "batch beam size"],
    live: Bool[Array, "batch beam size"],
    nodes: Int[Array, "batch beam"],
    digit: Int[Array, "batch"],
    width: int,
) -> tuple[Float[Array, "batch {width}"], Int[Array, "batch {width}"]]:
    """The true child in slot 0 and the best others behind it: the best `width`, or the true one for the worst of them.

    >>> logits = jnp.array([[[0.1, 0.9], [0.5, 0.7]]])
    >>> kept, nodes = keep_true(logits, logits > 0, jnp.array([[3, 1]]), jnp.array([0]), width=3)
    >>> nodes.tolist()
    [[6, 7, 3]]

    Which children are kept has no gradient; their logits have.

    Args:
      logits: float [B, W, n] of the children of the nodes; the true node is in slot 0.
      live: bool [B, W, n], False for children that lead to no class.
      nodes: int [B, W]; -1 where there is no node, whose children are not live.
      digit: int [B], which child of the node in slot 0 is the true one.
      width: how many to keep, at most W * n.

    Returns:
      `(logits, nodes)` [B, width], filled up with any logit and -1.
    """
    batch, _, size = logits.shape
    flat, live = logits.reshape(batch, -1), live.reshape(batch, -1)
    ranks = jnp.where(live, jax.lax.stop_gradient(flat), -jnp.inf)
    ranks = jnp.where(jnp.arange(flat.shape[1])[None, :] == digit[:, None], jnp.inf, ranks)
    best, at = per_row.top_k(ranks, width)
    children = jnp.take_along_axis(nodes, at // size, axis=1) * size + at % size
    return jnp.take_along_axis(flat, at, axis=1), jnp.where(best == -jnp.inf, -1, children)
