"""How good a ranking of labels is: precision, recall, nDCG, and their propensity-scored forms, at the first k.

The definitions are those of the Extreme Classification Repository's evaluation code (Bhatia et al. 2016), the
propensity-scored ones by Jain et al., KDD 2016.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from mhe_jax.labels import AnyArray


def ranking_metrics(
    ids: Int[AnyArray, "batch ranked"],
    labels: Int[AnyArray, "batch width"],
    inverse_propensity: Float[AnyArray, "labels"] | None,
    ks: Sequence[int],
) -> dict[str, tuple[Float32[Array, "batch"], Float32[Array, "batch"]]]:
    """Each document's part in the metrics of a ranking.

    The metric of a data set is sum(weight * numerator) / sum(weight * denominator) over its documents, and so does not
    depend on how they are batched and padded. With the hits among the first k, a document's true labels, the inverse
    propensity q of a label, and discounts d(i) = 1 / log2(i + 1) for place i = 1, 2, ...:

      P@k       hits / k
      R@k       hits / number of true labels
      nDCG@k    sum of d over the places of hits / sum of d over the first min(k, number of true labels) places
      PSP@k     sum of q over hits, and over the k true labels of largest q
      PSnDCG@k  sum of q d over hits, and over the k true labels of largest q in that order; both divided by nDCG's
                denominator

    P@k, R@k and nDCG@k are means over all documents; one without labels counts as 0. PSP@k and PSnDCG@k are ratios of
    sums, to which such a document adds nothing.

    >>> ids, labels = jnp.array([[7, 2, 5]]), jnp.array([[5, 7, -1]])
    >>> metrics = ranking_metrics(ids, labels, None, ks=(1, 3))
    >>> {name: round((part / whole).item(), 3) for name, (part, whole) in metrics.items() if name[0] != "n"}
    {'P@1': 1.0, 'R@1': 0.5, 'P@3': 0.667, 'R@3': 1.0}

    Args:
      ids: int [B, K] labels, best first, none twice; -1 where there is none.
      labels: int [B, W] true labels, none twice; -1, anywhere, for padding.
      inverse_propensity: float32 [L], or None to leave out the propensity-scored metrics.
      ks: lengths of the ranking to measure.

    Returns:
      {'P@k', 'R@k', 'nDCG@k', 'PSP@k', 'PSnDCG@k': (numerator [B], denominator [B])}, float32.

    Raises:
      ValueError: if the ranking is shorter than max(ks).
    """
    longest = max(ks)
    if ids.shape[1] < longest:
        raise ValueError(f"a ranking of {ids.shape[1]} labels cannot be measured at {longest}")
    ids = ids[:, :longest]
    hits = _contained(ids, labels).astype(jnp.float32)
    discounts = (1 / jnp.log2(jnp.arange(longest) + 2.0))[None, :]
    count = (labels >= 0).sum(axis=1).astype(jnp.float32)
    one = jnp.ones_like(count)
    # The most that a document can reach; a document without labels reaches nothing, so there any divisor will do.
    best = jnp.where(jnp.arange(longest)[None, :] < jnp.maximum(count, 1)[:, None], discounts, 0.0)
    reachable = {k: best[:, :k].sum(axis=1) for k in ks}

    values = {}
    for k in ks:
        found, gain = hits[:, :k].sum(axis=1), (hits * discounts)[:, :k].sum(axis=1)
        # Whole numbers, so that their float32 sums are exact up to 16 million hits.
        values[f"P@{k}"] = found, k * one
        values[f"R@{k}"] = found / jnp.maximum(count, 1), one
        values[f"nDCG@{k}"] = gain / reachable[k], one
    if inverse_propensity is None:
        return values

    of = lambda labels: inverse_propensity[jnp.maximum(labels, 0)]
    scored, ideal = hits * of(ids), _largest(jnp.where(labels >= 0, of(labels), 0.0), longest)
    for k in ks:
        first = lambda gains, k=k: gains[:, :k].sum(axis=1)
        values[f"PSP@{k}"] = first(scored), first(ideal)
        values[f"PSnDCG@{k}"] = first(scored * discounts) / reachable[k], first(ideal * discounts) / reachable[k]
    return values


def drop_filtered(
    scores: Float[AnyArray, "batch ranked"],
    ids: Int[AnyArray, "batch ranked"],
    filtered: Int[AnyArray, "batch filtered"],
    k: int,
) -> tuple[Float[Array, "batch {k}"], Int[Array, "batch {k}"]]:
    """The first k of a ranking without the labels that do not count for a document.

    >>> scores, ids = drop_filtered(jnp.array([[3.0, 2.0, 1.0]]), jnp.array([[7, 2, 5]]), jnp.array([[7]]), k=2)
    >>> scores.tolist(), ids.tolist()
    ([[2.0, 1.0]], [[2, 5]])

    It is what a ranking of the other labels alone would give, if this one is long enough: k + F labels are.

    Args:
      scores: float [B, K], best first.
      ids: int [B, K], -1 where there is none.
      filtered: int [B, F], -1, anywhere, for padding.
      k: how many are wanted, at most K.

    Returns:
      scores [B, k] and ids [B, k]; -inf and -1 where none is left.

    Raises:
      ValueError: if k is larger than K.
    """
    if k > ids.shape[1]:
        raise ValueError(f"{k} labels cannot be left of a ranking of {ids.shape[1]}")
    dropped = _contained(ids, filtered) | (ids < 0)
    # Stable: the others keep their order.
    order = jnp.argsort(dropped, axis=1, stable=True)[:, :k]
    take = lambda array: jnp.take_along_axis(array, order, axis=1)
    return jnp.where(take(dropped), -jnp.inf, take(scores)), jnp.where(take(dropped), -1, take(ids))


def drop_labels(
    labels: Int[AnyArray, "batch width"], filtered: Int[AnyArray, "batch filtered"]
) -> Int[Array, "batch width"]:
    """True labels [B, W] without those in `filtered` [B, F], which no ranking can hit: -1 in their place.

    >>> drop_labels(jnp.array([[4, 7]]), jnp.array([[7, -1]])).tolist()
    [[4, -1]]
    """
    return jnp.where(_contained(labels, filtered), -1, labels)


def _contained(ids: AnyArray, rows: AnyArray) -> jax.Array:
    """Whether each id is in its row: int [B, K], int [B, W] -> bool [B, K]; -1 never is. Needs no array [B, K, W]."""
    if not rows.shape[1]:
        return jnp.zeros(ids.shape, bool)
    rows = jnp.sort(rows, axis=1)
    place = jax.vmap(functools.partial(jnp.searchsorted, method="scan_unrolled"))(rows, ids)
    found = jnp.take_along_axis(rows, jnp.minimum(place, rows.shape[1] - 1), axis=1)
    return (found == ids) & (ids >= 0)


def _largest(values: jax.Array, k: int) -> jax.Array:
    """The k largest of each row, filled up with zeros: [B, W] -> [B, k]."""
    top, _ = jax.lax.top_k(values, min(k, values.shape[1]))
    return jnp.pad(top, ((0, 0), (0, k - top.shape[1])))
