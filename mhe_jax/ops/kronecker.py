"""The Kronecker sum of per-head logits, restricted to the codes that are classes, without ever forming it.

The score of a code is the sum of its digits' logits, so over a product set of codes log-sum-exp, mean and top-k split
into one short problem per head. `LabelSpace.boxes()` writes the valid codes as at most H product sets; everything here
costs O(H * sum(head_sizes)) plus the k results, whatever the number of classes.

Logits are a tuple of H float arrays [..., n_h]; a mixture of R products has them as [B, R, n_h].

Source: Multi-Head Encoding (arXiv 2412.10182), eq. 16 for the sum of several products.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mhe_jax.labels import LabelSpace

Logits = Sequence[jax.Array]


def split_heads(logits: jax.Array, head_sizes: Sequence[int]) -> tuple[jax.Array, ...]:
    """Cuts [..., sum(head_sizes)] into H arrays [..., n_h]."""
    ends = list(itertools.accumulate(head_sizes))
    return tuple(logits[..., end - size : end] for size, end in zip(head_sizes, ends, strict=True))


def slots(digits: jax.Array, head_sizes: Sequence[int]) -> jax.Array:
    """Positions of digits [..., H] in the concatenated logits: digit_h + n_0 + .. + n_{h-1}."""
    offsets = np.array([0, *itertools.accumulate(head_sizes)][:-1], np.int32)
    return digits + jnp.broadcast_to(offsets, digits.shape)


def code_scores(logits: Logits, digits: jax.Array) -> jax.Array:
    """Summed logits of given codes: H arrays [..., n_h] and digits int [..., M, H] -> [..., M]."""
    picked = [jnp.take_along_axis(logit, digits[..., h], axis=-1) for h, logit in enumerate(logits)]
    return sum(picked[1:], start=picked[0])


def log_partition(logits: Logits, label_space: LabelSpace) -> jax.Array:
    """Log-sum-exp of the scores of all valid codes: H arrays [..., n_h] -> [...]."""
    per_box = []
    for box in label_space.boxes():
        sums = [jax.nn.logsumexp(x[..., low:high], axis=-1) for x, (low, high) in zip(logits, box, strict=True)]
        per_box.append(sum(sums[1:], start=sums[0]))
    return jax.nn.logsumexp(jnp.stack(per_box, axis=-1), axis=-1)


def mean_score(logits: Logits, label_space: LabelSpace) -> jax.Array:
    """Mean score of all valid codes, what label smoothing needs: H arrays [..., n_h] -> [...].

    How many classes use digit i at head h is known beforehand, so the mean is one weighted sum per head.
    """
    counts = [np.zeros(size) for size in label_space.head_sizes]
    for box in label_space.boxes():
        volume = math.prod(high - low for low, high in box)
        for count, (low, high) in zip(counts, box, strict=True):
            count[low:high] += volume / (high - low)
    shares = [jnp.asarray(count / label_space.num_classes, jnp.float32) for count in counts]
    sums = [jnp.dot(x, share, precision="highest") for x, share in zip(logits, shares, strict=True)]
    return sum(sums[1:], start=sums[0])


def top_codes(logits: Logits, label_space: LabelSpace, k: int) -> tuple[jax.Array, jax.Array]:
    """The k valid codes of largest score, exactly: H arrays [..., n_h] -> (scores [..., k], ids int32 [..., k]).

    In each box the best k prefixes of h digits are merged with the best k digits of the next head. A pair of ranks
    (i, j), counted from 1, is beaten by the i * j - 1 pairs below it, so only pairs with i * j <= k, about k ln k of
    the k^2, can be among the best k. `k` is at most the number of classes.
    """
    scores, ids = [], []
    for box in label_space.boxes():
        best, codes = _top_range(logits[0], box[0], k)
        for logit, size, bounds in zip(logits[1:], label_space.head_sizes[1:], box[1:], strict=True):
            digit_scores, digits = _top_range(logit, bounds, k)
            left, right = _undominated_pairs(best.shape[-1], digits.shape[-1], k)
            sums = best[..., left] + digit_scores[..., right]
            best, at = lax.top_k(sums, min(k, sums.shape[-1]))
            codes = jnp.take_along_axis(codes[..., left] * size + digits[..., right], at, axis=-1)
        scores.append(best)
        ids.append(codes)
    best, at = lax.top_k(jnp.concatenate(scores, axis=-1), k)
    return best, jnp.take_along_axis(jnp.concatenate(ids, axis=-1), at, axis=-1)


def mixture_code_scores(logits: Logits, digits: jax.Array) -> jax.Array:
    """Unnormalised log-probability of codes under R products: H arrays [B, R, n_h], digits [B, M, H] -> [B, M].

    The R unnormalised probabilities add up (eq. 16): log p(y) is this minus logsumexp_r of `log_partition`.
    """
    return jax.nn.logsumexp(code_scores(logits, digits[:, None]), axis=1)


def mixture_top_codes(
    logits: Logits, label_space: LabelSpace, k: int, num_candidates: int
) -> tuple[jax.Array, jax.Array]:
    """Top k codes of a sum of R products: H arrays [B, R, n_h] -> (scores [B, k], ids [B, k]).

    Candidates are the best m = max(k, num_candidates) codes of each product, rescored by the sum; exact for R = 1, an
    approximation otherwise. A code in none of the lists scores at most logsumexp_r of the lists' m-th scores, so the
    results above that bound are certainly right.
    """
    groups = logits[0].shape[1]
    if groups == 1:
        return top_codes([logit[:, 0] for logit in logits], label_space, k)
    num_candidates = min(max(k, num_candidates), label_space.num_classes)
    _, ids = top_codes(logits, label_space, num_candidates)
    ids = jnp.sort(ids.reshape(ids.shape[0], -1), axis=1)
    repeated = jnp.diff(ids, axis=1, prepend=-1) == 0
    scores = jnp.where(repeated, -jnp.inf, mixture_code_scores(logits, label_space.encode(ids)))
    best, at = lax.top_k(scores, k)
    return best, jnp.take_along_axis(ids, at, axis=1)


def _top_range(logits, bounds, k):
    """Best k (or all) of the digits low .. high-1."""
    low, high = bounds
    best, at = lax.top_k(logits[..., low:high], min(k, high - low))
    return best, at + low


def _undominated_pairs(rows: int, columns: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) with (i + 1) * (j + 1) <= k, row by row."""
    widths = [min(columns, k // (i + 1)) for i in range(min(rows, k))]
    left = np.repeat(np.arange(len(widths)), widths)
    right = np.concatenate([np.arange(width) for width in widths])
    return left, right
