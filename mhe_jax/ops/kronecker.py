"""The Kronecker sum of per-head logits, restricted to the codes that are classes, without ever forming it.

The score of a code is the sum of its digits' logits, so over a product set of codes log-sum-exp, mean and top-k split
into one short problem per head. `ops.boxes` writes the valid codes as few product sets, at most H but for free codes;
everything here costs O(H * sum(head_sizes)) plus the k results, whatever the number of classes. Only the top-k of a
mixture does not split: it is searched for, and a bound says what the search may leave out.

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
from jaxtyping import Array, Float, Int

from mhe_jax.labels import LabelSpace
from mhe_jax.ops import per_row
from mhe_jax.ops.boxes import boxes

Logits = Sequence[Float[Array, "*batch _"]]
Mixture = Sequence[Float[Array, "batch rank _"]]

_BLOCK_FLOATS = 2**19  # what a search scores at a time, 2 MiB: it stays in a core's cache


def split_heads(
    logits: Float[Array, "*batch slots"], head_sizes: Sequence[int]
) -> tuple[Float[Array, "*batch _"], ...]:
    """Cuts [..., sum(head_sizes)] into H arrays [..., n_h]."""
    ends = list(itertools.accumulate(head_sizes))
    return tuple(logits[..., end - size : end] for size, end in zip(head_sizes, ends, strict=True))


def slots(digits: Int[Array, "*batch heads"], head_sizes: Sequence[int]) -> Int[Array, "*batch heads"]:
    """Positions of digits [..., H] in the concatenated logits: digit_h + n_0 + .. + n_{h-1}."""
    offsets = np.array([0, *itertools.accumulate(head_sizes)][:-1], np.int32)
    return digits + jnp.broadcast_to(offsets, digits.shape)


def code_scores(
    logits: Sequence[Float[Array, "*#batch _"]], digits: Int[Array, "*#batch codes heads"]
) -> Float[Array, "*#batch codes"]:
    """Summed logits of given codes: H arrays [..., n_h] and digits int [..., M, H] -> [..., M]."""
    picked = [jnp.take_along_axis(logit, digits[..., h], axis=-1) for h, logit in enumerate(logits)]
    return sum(picked[1:], start=picked[0])


def log_partition(logits: Logits, label_space: LabelSpace) -> Float[Array, "*batch"]:
    """Log-sum-exp of the scores of all valid codes: H arrays [..., n_h] -> [...]."""
    per_box = []
    for box in boxes(label_space):
        sums = [jax.nn.logsumexp(x[..., low:high], axis=-1) for x, (low, high) in zip(logits, box, strict=True)]
        per_box.append(sum(sums[1:], start=sums[0]))
    return jax.nn.logsumexp(jnp.stack(per_box, axis=-1), axis=-1)


def mean_score(logits: Logits, label_space: LabelSpace) -> Float[Array, "*batch"]:
    """Mean score of all valid codes, what label smoothing needs: H arrays [..., n_h] -> [...].

    How many classes use digit i at head h is known beforehand, so the mean is one weighted sum per head.
    """
    counts = [np.zeros(size) for size in label_space.head_sizes]
    for box in boxes(label_space):
        volume = math.prod(high - low for low, high in box)
        for count, (low, high) in zip(counts, box, strict=True):
            count[low:high] += volume / (high - low)
    shares = [jnp.asarray(count / label_space.num_live, jnp.float32) for count in counts]
    sums = [jnp.dot(x, share, precision="highest") for x, share in zip(logits, shares, strict=True)]
    return sum(sums[1:], start=sums[0])


def top_codes(
    logits: Logits, label_space: LabelSpace, k: int
) -> tuple[Float[Array, "*batch {k}"], Int[Array, "*batch {k}"]]:
    """The k valid codes of largest score, exactly: H arrays [..., n_h] -> (scores [..., k], ids int32 [..., k]).

    In each box the best k prefixes of h digits are merged with the best k digits of the next head. A pair of ranks
    (i, j), counted from 1, is beaten by the i * j - 1 pairs below it, so only pairs with i * j <= k, about k ln k of
    the k^2, can be among the best k. `k` is at most the number of classes.
    """
    scores, ids = [], []
    for box in boxes(label_space):
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


def mixture_code_scores(logits: Mixture, digits: Int[Array, "batch codes heads"]) -> Float[Array, "batch codes"]:
    """Unnormalised log-probability of codes under R products: H arrays [B, R, n_h], digits [B, M, H] -> [B, M].

    The R unnormalised probabilities add up (eq. 16): log p(y) is this minus logsumexp_r of `log_partition`.
    """
    return jax.nn.logsumexp(code_scores(logits, digits[:, None]), axis=1)


def mixture_top_codes(
    logits: Mixture, label_space: LabelSpace, k: int, num_candidates: int = 64
) -> tuple[Float[Array, "batch {k}"], Int[Array, "batch {k}"]]:
    """The k valid codes of largest `mixture_code_scores`, exactly: H arrays [B, R, n_h] -> (scores [B, k], ids [B, k]).

    The leading digits name a row of the table of all codes and the others a column, so that product r scores a_r[row] +
    b_r[column]. The k rows with the best codes hold the k best codes: any code elsewhere is beaten by one code of each.
    The best code of a row is max_j sum_r exp(a_r[row]) exp(b_r[j]), a matrix product for many rows, and it is at most
    sum_r exp(a_r[row]) max_j exp(b_r[j]). Rows are searched in the order of that bound until it is no better than the
    k-th best row so far; the k rows left are then scored code by code, in logarithms.

    An example costs at most R * num_codes multiply-adds, as it does where logits are flat; where they are peaked, a few
    rows are enough. Exact is meant up to the rounding of float32, which may exchange scores that are equal but for some
    units in the last place. Of equal scores in the rows that are left, the lower id comes first.

    Args:
      logits: H float32 arrays [B, R, n_h].
      label_space: the codes that are classes.
      k: how many, at most the number of classes.
      num_candidates: rows searched at a time, fewer if the batch is large. It changes time and memory, not the result.

    Raises:
      ValueError: if `num_candidates` is not positive.
    """
    if num_candidates < 1:
        raise ValueError(f"num_candidates is {num_candidates}; it must be at least 1")

    def of_own(*logits):
        if logits[0].shape[1] == 1:
            return top_codes([logit[:, 0] for logit in logits], label_space, k)
        return _search(logits, label_space, k, num_candidates)

    return per_row.on_own_rows(of_own, *logits)


def _search(logits, label_space, k, num_candidates):
    """`mixture_top_codes` of the examples of one device."""
    sizes = label_space.head_sizes
    cut = min(range(len(sizes)), key=lambda h: math.prod(sizes[:h]) + math.prod(sizes[h:]))
    rows, columns = _kronecker_sum(logits[:cut], logits[0]), _kronecker_sum(logits[cut:], logits[0])
    width = columns.shape[2]
    full, partial = divmod(label_space.num_classes, width)
    # A row may owe its rank to a free code: there is room for all of these beside the k.
    kept = k + len({code // width for code in label_space.free})
    if full > kept:
        best = _best_rows(rows[:, :, :full], columns, kept, num_candidates)
    else:
        best = jnp.broadcast_to(jnp.arange(full)[None, :], (rows.shape[0], full))
    if partial:  # padding codes may have raised this row's bound, and are only told apart below
        best = jnp.pad(best, ((0, 0), (0, 1)), constant_values=full)
    terms = jnp.take_along_axis(rows, best[:, None, :], axis=2)
    scores = jax.nn.logsumexp(terms[:, :, :, None] + columns[:, :, None, :], axis=1)
    ids = best[:, :, None] * width + jnp.arange(width)[None, None, :]
    scores = jnp.where(label_space.is_valid(ids), scores, -jnp.inf)
    scores, at = lax.top_k(scores.reshape(scores.shape[0], -1), k)
    return scores, jnp.take_along_axis(ids.reshape(ids.shape[0], -1), at, axis=1)


def _best_rows(rows, columns, k, num_candidates):
    """The k rows with the best codes, in ascending order: [B, R, rows > k], [B, R, columns] -> int32 [B, k]."""
    batch, _, num_rows = rows.shape
    peaks = columns.max(axis=2, keepdims=True)
    columns, rows = jnp.exp(columns - peaks), rows + peaks
    size = max(1, min(num_candidates, num_rows, _BLOCK_FLOATS // (per_row.expected(batch) * columns.shape[2])))
    blocks = -(-num_rows // size)
    bounds = jnp.pad(jax.nn.logsumexp(rows, axis=1), ((0, 0), (0, blocks * size - num_rows)), constant_values=-jnp.inf)
    bounds, order = lax.top_k(bounds, blocks * size)

    def is_open(carry):
        block, best, _ = carry
        bound = lax.dynamic_index_in_dim(bounds, block * size, axis=1, keepdims=False)
        return (block < blocks) & (bound > best[:, -1]).any()

    def step(carry):
        block, best, found = carry
        ids = lax.dynamic_slice_in_dim(order, block * size, size, axis=1)
        terms = jnp.take_along_axis(rows, ids[:, None, :], axis=2, mode="clip")
        # The largest term of a row and the largest of each column are 1 here, so a row's best code never underflows.
        shift = terms.max(axis=1)
        sums = jnp.einsum("brm,brn->bmn", jnp.exp(terms - shift[:, None, :]), columns, precision="highest")
        scores = jnp.where(ids < num_rows, shift + jnp.log(sums.max(axis=2)), -jnp.inf)
        best, at = lax.top_k(jnp.concatenate([best, scores], axis=1), k)
        return block + 1, best, jnp.take_along_axis(jnp.concatenate([found, ids], axis=1), at, axis=1)

    nothing = jnp.full_like(bounds[:, :k], -jnp.inf), order[:, :k]
    return jnp.sort(lax.while_loop(is_open, step, (0, *nothing))[2], axis=1)


def _kronecker_sum(logits, like):
    """The sums of all combinations of digits, in the order of their codes: arrays [B, R, n] -> [B, R, prod n]."""
    total = jnp.zeros_like(like[:, :, :1])
    for logit in logits:
        total = (total[:, :, :, None] + logit[:, :, None, :]).reshape(*logit.shape[:2], -1)
    return total


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
