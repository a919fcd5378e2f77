"""Heads that begin where a one-hot head has got to, rather than at random."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from mhe_jax.labels import LabelSpace


def cascade(
    rows: Float[Array, "classes width"], space: LabelSpace, hidden_dim: int
) -> list[tuple[Float32[Array, "width outputs"], Float32[Array, "nodes size outputs"] | None]]:
    """Weights of a cascade whose sums of logits on the way to the classes are nearly `rows @ x`.

    A node stands for the mean row of its classes, less what stands above it. Of a level below the first only
    `hidden_dim` directions can be kept: those in which its nodes differ most. A softmax among siblings is not changed
    by what they have in common, so for both objectives of `CascadeHead` classes are told apart as the rows did it.

    Args:
      rows: weights of the classes, by code; with the biases as their last column, the map's biases are its last row.
      space: the classes and their digits.
      hidden_dim: of the cascade.

    Returns:
      for each level the linear map of the features and the table of its nodes, which level 0 has not.
    """
    width = rows.shape[1]
    padded = jnp.pad(rows.astype(jnp.float32), ((0, space.num_codes - space.num_classes), (0, 0)))
    is_class = jnp.arange(space.num_codes) < space.num_classes
    found: list[tuple[jax.Array, jax.Array | None]] = []
    above = jnp.zeros((1, width))
    for level, (size, stride) in enumerate(zip(space.head_sizes, space.strides, strict=True)):
        nodes = math.prod(space.head_sizes[: level + 1])
        counts = is_class.reshape(nodes, stride).sum(axis=1)[:, None]
        means = padded.reshape(nodes, stride, width).sum(axis=1) / jnp.maximum(counts, 1)
        own = jnp.where(counts > 0, means - jnp.repeat(above, size, axis=0), 0.0)
        if level == 0:
            found.append((own.T, None))
        else:
            linear, table = _factors(own, hidden_dim)
            found.append((linear, table.reshape(nodes // size, size, hidden_dim)))
        above = means
    return found


def _factors(matrix, rank):
    """`linear` [D, rank] and `table` [N, rank] with `table @ linear.T` near to a matrix [N, D]; of one scale."""
    _, directions = jnp.linalg.eigh(jnp.einsum("nd,ne->de", matrix, matrix, precision="highest"))
    best = directions[:, ::-1][:, :rank]
    table = jnp.einsum("nd,dr->nr", matrix, best, precision="highest")
    rms = lambda x: jnp.sqrt(jnp.square(x).mean())
    scale = jnp.sqrt(jnp.maximum(rms(table), 1e-12) / rms(best))
    # Directions beyond the matrix's own: what is zero on both sides would never move.
    missing = ((0, 0), (0, rank - best.shape[1]))
    return jnp.pad(best * scale, missing, constant_values=1e-3), jnp.pad(table / scale, missing)
