"""Cosines of features with a long table of classes, an example's own class apart from the others, block by block.

A margin changes the cosine of the own class alone, so a margin softmax needs two numbers of each example: that cosine,
and the log-sum-exp over the other classes. As in `chunked`, one block of cosines exists at a time in the forward and in
the backward pass, unless all are few; and what is divided by the rows' lengths is the cosines, so that there is no
normalised copy of the table.

Queries are the unit vectors of the features; products run in their dtype and accumulate in float32, norms are float32.
Inside `jax.shard_map`, queries and table must vary over the same mesh axes (`jax.lax.pcast`), unless the
table is visited.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int

from mhe_jax.ops import blocks
from mhe_jax.ops.margins import hard_negatives
from mhe_jax.ops.owned import Visit
from mhe_jax.ops.rows import Groups
from mhe_jax.ops.storage import Scaled


class HardNegatives(NamedTuple):
    """What `margins.hard_negatives` needs of a batch; neither receives a gradient."""

    threshold: Any  # float32 [B]
    boost: Any  # float32 []

    def apply(self, cosines: jax.Array) -> jax.Array:
        """Cosines [B, ...] with other classes as they enter the softmax."""
        return hard_negatives(cosines, self.threshold.reshape(-1, *[1] * (cosines.ndim - 1)), self.boost)


def own_and_others(
    queries: Float[Array, "batch dim"],
    table: Float[Array, "classes dim"] | Scaled | Groups,
    labels: Int[Array, "batch"],
    mask: Bool[Array, "classes"],
    scale: float,
    hard: HardNegatives | None = None,
    block_size: int | None = None,
    visit: Visit | None = None,
    offsets: Float[Array, "classes"] | None = None,
    centers: int = 1,
) -> tuple[Float32[Array, "batch"], Float32[Array, "batch"]]:
    """The cosine with the own class, and the log-sum-exp of `scale` times the cosines with the others.

    Args:
      queries: float [B, D], unit vectors (or zero).
      table: float [C, D], or groups of one; a zero row has cosine 0 with everything.
      labels: int [B]; outside 0 .. C-1 the own cosine is 0, and all rows are others.
      mask: bool [C]; False rows are no classes.
      scale: factor of the cosines in the exponent.
      hard: how hard negatives are emphasised; None leaves them as they are.
      block_size, visit: as in `chunked.blocked_lse`.
      offsets: float [C], added to the scaled cosines with the others; without a gradient.
      centers: rows of each class, one after the other, of which the nearest counts (sub-center ArcFace, Deng et al.,
        ECCV 2020). C, labels, mask and offsets are of rows: a label is the first of its class, what a class has of mask
        and offsets is at its first row.

    Returns:
      `(own [B], lse [B])`, float32; lse is -inf, with zero gradient, where there is no other class.
    """
    block_size = blocks.of_whole_classes(queries, block_size, centers)
    return _own_and_others(scale, block_size, centers, queries, table, labels, mask, hard, visit, offsets)


def _shown(cosines, hard: HardNegatives | None):
    """What stands for cosines among the others."""
    return cosines if hard is None else hard.apply(cosines)


def _raised(logits, block, offsets, centers):
    """Logits [B, classes] of a block with its rows' offsets."""
    if offsets is None:
        return logits
    return logits + jax.lax.dynamic_slice_in_dim(offsets, block.start, block.rows.shape[0])[None, ::centers]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _own_and_others(scale, block_size, centers, *arguments):
    return _passed(False, scale, block_size, centers, *arguments)[0]


def _passed(keep, scale, block_size, centers, queries, table, labels, mask, hard, visit, offsets):
    def step(carry, block):
        own, lse = carry
        is_own, live = block.is_label(labels)[:, ::centers], block.live[None, ::centers]
        cosines = blocks.nearest(block.logits, centers)
        shown = _raised(scale * _shown(cosines, hard), block, offsets, centers)
        lse = jnp.logaddexp(lse, jax.nn.logsumexp(shown, axis=1, where=live & ~is_own))
        return own + jnp.where(is_own, cosines, 0.0).sum(axis=1), lse

    zero = blocks.zero_per_example(queries)
    initial = zero, zero - jnp.inf
    return blocks.forward_and_known(step, initial, block_size, queries, table, None, mask, True, visit, keep)


def _forward(scale, block_size, centers, queries, table, labels, mask, hard, visit, offsets):
    arguments = queries, table, labels, mask, hard, visit, offsets
    out, known = _passed(True, scale, block_size, centers, *arguments)
    return out, (*arguments, out[1], known)


def _backward(scale, block_size, centers, residuals, cotangents):
    queries, table, labels, mask, hard, visit, offsets, lse, known = residuals
    d_own, d_lse = cotangents
    shift = jnp.where(lse == -jnp.inf, 0.0, lse)  # no other class: its terms are masked, and must not be NaN

    def d_cosines(block):
        is_own, live = block.is_label(labels)[:, ::centers], block.live[None, ::centers]
        cosines, to_rows = jax.vjp(lambda logits: blocks.nearest(logits, centers), block.logits)
        shown, vjp = jax.vjp(lambda cosines: _shown(cosines, hard), cosines)
        raised = _raised(scale * shown, block, offsets, centers)
        above = jnp.where(live & ~is_own, raised, -jnp.inf) - shift[:, None]
        probabilities = jnp.exp(jnp.minimum(above, 0.0))  # above 0 by rounding only, see `chunked`
        (of_others,) = vjp(d_lse[:, None] * scale * probabilities)
        return to_rows(of_others + jnp.where(is_own, d_own[:, None], 0.0))[0]

    found = blocks.backward(d_cosines, block_size, queries, table, None, mask, True, visit, known)
    d_queries, d_table, _, d_visit = found
    return (
        d_queries,
        d_table,
        None,
        None,
        jax.tree.map(jnp.zeros_like, hard),
        d_visit,
        jax.tree.map(jnp.zeros_like, offsets),
    )


_own_and_others.defvjp(_forward, _backward)
