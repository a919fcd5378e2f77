"""Random erasing, and boxes in pictures."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

AREA_RANGE, ASPECT_RANGE = (0.02, 0.33), (0.3, 3.3)  # torchvision's RandomErasing
_TRIES = 10


class Boxes(NamedTuple):
    """Rows `top` .. `bottom` - 1 and columns `left` .. `right` - 1 of each picture, int32 [B]."""

    top: jax.Array
    bottom: jax.Array
    left: jax.Array
    right: jax.Array


def within(boxes: Boxes, height: int, width: int) -> jax.Array:
    """Which pixels lie in their picture's box, bool [B, H, W, 1]."""
    rows, columns = jnp.arange(height)[None, :], jnp.arange(width)[None, :]
    in_rows = (rows >= boxes.top[:, None]) & (rows < boxes.bottom[:, None])
    in_columns = (columns >= boxes.left[:, None]) & (columns < boxes.right[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[..., None]


def draw(key: jax.Array, batch: int, size: tuple[int, int]) -> Boxes:
    """A box for each picture, of a uniform area and a log-uniform aspect: the first of ten that fits, else none."""
    height, width = size
    area_key, aspect_key, row_key, column_key = jax.random.split(key, 4)
    shape = batch, _TRIES
    area = height * width * jax.random.uniform(area_key, shape, minval=AREA_RANGE[0], maxval=AREA_RANGE[1])
    low, high = map(math.log, ASPECT_RANGE)
    aspect = jnp.exp(jax.random.uniform(aspect_key, shape, minval=low, maxval=high))
    tall, wide = (jnp.round(jnp.sqrt(side)).astype(jnp.int32) for side in (area * aspect, area / aspect))
    fits = (tall < height) & (wide < width)
    first = jnp.argmax(fits, axis=1)[:, None]
    pick = lambda x: jnp.where(fits.any(axis=1), jnp.take_along_axis(x, first, axis=1)[:, 0], 0)
    tall, wide = pick(tall), pick(wide)
    place = lambda key, room: jnp.floor(jax.random.uniform(key, (batch,)) * room).astype(jnp.int32)
    top, left = place(row_key, height - tall + 1), place(column_key, width - wide + 1)
    return Boxes(top, top + tall, left, left + wide)


def erase(images: jax.Array, key: jax.Array, probability: float, noise: bool) -> jax.Array:
    """A box of some pictures in the place of what was there: float [B, H, W, C], normalised.

    Zhong et al., AAAI 2020, arXiv 1708.04896. As torchvision does it, with zeros, or as timm with reprob and mode
    'pixel', with normally distributed noise.

    Args:
      images: float [B, H, W, C].
      key: of the batch.
      probability: of each picture.
      noise: what stands in the box.
    """
    which_key, box_key, noise_key = jax.random.split(key, 3)
    chosen = jax.random.bernoulli(which_key, probability, (len(images), 1, 1, 1))
    filling = jax.random.normal(noise_key, images.shape, images.dtype) if noise else jnp.zeros_like(images)
    batch, height, width, _ = images.shape
    inside = within(draw(box_key, batch, (height, width)), height, width)
    return jnp.where(chosen & inside, filling, images)
