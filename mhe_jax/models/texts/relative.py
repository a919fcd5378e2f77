"""The shift that scores by relative positions need."""

import jax


def skew(scores: jax.Array) -> jax.Array:
    """From relative to absolute positions: [..., T, 2T] -> [..., T, T], where (i, j) is the old (i, T - i + j).

    Column p of the argument belongs to keys that stand p - T places behind the query. A reshape does what would
    otherwise be a gather: rows that are one column short move by one place each. Source: Transformer-XL, appendix B.
    """
    *lead, t, width = scores.shape
    rows = scores.reshape(*lead, width, t)[..., 1:, :].reshape(*lead, t, width - 1)
    return rows[..., :t]
