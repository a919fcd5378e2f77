"""A vision transformer's learned positions, for pictures of another size than they were learned on."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def resized(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Positions [1, 1 + n², D], of a class token and n x n patches, as `shape` = (1, 1 + m², D).

    The grid is interpolated bicubically, with antialias where it becomes smaller, as timm does; the token's position
    stays. One of another width, or of nothing, is returned as it is.

    Raises:
      ValueError: if one of the grids is not square.
    """
    if array.shape == shape or array.ndim != 3 or len(shape) != 3 or array.shape[::2] != shape[::2] or not array.size:
        return array
    old, new = (math.isqrt(count - 1) for count in (array.shape[1], shape[1]))
    if 1 + old**2 != array.shape[1] or 1 + new**2 != shape[1]:
        raise ValueError(
            f"the state dict has positions of {array.shape[1]} tokens and the model of {shape[1]}: only those of a "
            "class token and a square of patches are interpolated"
        )
    width = shape[2]
    grid = jnp.asarray(array[:, 1:]).reshape(old, old, width)
    grid = jax.image.resize(grid, (new, new, width), "cubic", antialias=True)
    return np.concatenate([array[:, :1], np.asarray(grid, array.dtype).reshape(1, -1, width)], axis=1)
