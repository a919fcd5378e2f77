"""The operations of RandAugment and TrivialAugment on a batch of pictures, each picture with one of its own.

All of them run on all pictures, inside of the jitted step, and change nothing where another one was drawn: five are one
warp with another matrix, and most of the others a few numbers for each pixel. The arithmetic is Pillow's, on which
torchvision and timm build.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

# What the argument of each means is told where it is used below.
OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "solarize_add",
    "invert",
    "autocontrast",
    "equalize",
)


class Drawn(NamedTuple):
    """An operation for each picture: `operation` int32 [B], a place in `OPERATIONS`, and `argument` float32 [B]."""

    operation: jax.Array
    argument: jax.Array


def apply(images: jax.Array, drawn: Drawn, fill: tuple[float, ...]) -> jax.Array:
    """Each picture after its operation: uint8 [B, H, W, C] of 1 or 3 channels, red, green and blue.

    Args:
      images: uint8 [B, H, W, C].
      drawn: what happens to each.
      fill: what a warp shows from outside, of 255, by channel.
    """
    is_drawn = lambda name: (drawn.operation == OPERATIONS.index(name))[:, None, None, None]
    argument = drawn.argument[:, None, None, None]
    warped = jnp.stack([is_drawn(name)[:, 0, 0, 0] for name in _MATRICES]).any(axis=0)[:, None, None, None]
    result = jnp.where(warped, _warp(images, _matrix(drawn, *images.shape[1:3]), fill), images)
    for name, operation in _POINTWISE.items():
        result = jnp.where(is_drawn(name), operation(images, argument), result)
    return result


# By operation: the inverse change [a, b, c, d, e, f], so that (x, y) is looked up at (ax + by + c, dx + ey + f).
# Arguments: a factor of the other coordinate, pixels to the right or down, degrees against the clock.
_MATRICES: dict[str, Callable] = {
    "shear_x": lambda v, height, width: (1, v, 0, 0, 1, 0),
    "shear_y": lambda v, height, width: (1, 0, 0, v, 1, 0),
    "translate_x": lambda v, height, width: (1, 0, -v, 0, 1, 0),
    "translate_y": lambda v, height, width: (1, 0, 0, 0, 1, -v),
    "rotate": lambda v, height, width: _rotation(-jnp.deg2rad(v), height, width),
}


def _rotation(angle: jax.Array, height: int, width: int) -> tuple:
    """About the centre, which lies at (width / 2, height / 2) where pixels have their centres at halves."""
    cos, sin, x, y = jnp.cos(angle), jnp.sin(angle), width / 2, height / 2
    return cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y


def _matrix(drawn: Drawn, height: int, width: int) -> jax.Array:
    """float32 [B, 6], the identity where no warp was drawn."""
    one = jnp.ones_like(drawn.argument)
    matrix = jnp.stack([one * entry for entry in (1, 0, 0, 0, 1, 0)], axis=1)
    for name, entries in _MATRICES.items():
        own = jnp.stack([one * entry for entry in entries(drawn.argument, height, width)], axis=1)
        matrix = jnp.where((drawn.operation == OPERATIONS.index(name))[:, None], own, matrix)
    return matrix


def _warp(images: jax.Array, matrix: jax.Array, fill: tuple[float, ...]) -> jax.Array:
    """Pillow's transform(AFFINE, BILINEAR): between the four nearest pixels, `fill` where a centre falls outside."""
    _, height, width, channels = images.shape
    x, y = (jnp.arange(size, dtype=jnp.float32) + 0.5 for size in (width, height))
    a, b, c, d, e, f = (column[:, None, None] for column in matrix.T)
    across = a * x[None, None, :] + b * y[None, :, None] + c  # [B, H, W]
    down = d * x[None, None, :] + e * y[None, :, None] + f
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    left, top = (jnp.floor(place - 0.5) for place in (across, down))
    right_share, lower_share = across - 0.5 - left, down - 0.5 - top
    # A gather of each picture by itself stays on its device.
    look_up = jax.vmap(lambda image, row, column: image[row, column])

    def at(row, column):
        row, column = (
            jnp.clip(place.astype(jnp.int32), 0, size - 1) for place, size in ((row, height), (column, width))
        )
        return look_up(images, row, column).astype(jnp.float32)  # [B, H, W, C]

    def between(first, second, share):
        return first + share[..., None] * (second - first)

    upper = between(at(top, left), at(top, left + 1), right_share)
    lower = between(at(top + 1, left), at(top + 1, left + 1), right_share)
    outside = jnp.asarray(fill, jnp.float32).reshape(1, 1, 1, channels)
    return jnp.where(inside[..., None], between(upper, lower, lower_share), outside).astype(jnp.uint8)


def grey(images: jax.Array) -> jax.Array:
    """Pillow's luma of red, green and blue, uint8 [B, H, W, 1]; one channel is itself."""
    if images.shape[-1] == 1:
        return images
    weighted = images.astype(jnp.int32) * jnp.array([19595, 38470, 7471])[None, None, None, :]
    return ((weighted.sum(axis=-1, keepdims=True) + 0x8000) >> 16).astype(jnp.uint8)


def blend(nothing: jax.Array, images: jax.Array, factor: jax.Array) -> jax.Array:
    """Pillow's enhancement: 0 gives `nothing`, 1 the picture, more goes beyond; uint8 [B, H, W, C]."""
    nothing, images = nothing.astype(jnp.float32), images.astype(jnp.float32)
    return jnp.clip(nothing + factor * (images - nothing), 0, 255).astype(jnp.uint8)


def brightness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Towards or away from black, by a factor [B, 1, 1, 1]."""
    return blend(jnp.zeros_like(images), images, factor)


def color(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Towards or away from the grey picture."""
    return blend(grey(images), images, factor)


def contrast(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Towards or away from the mean of the grey picture."""
    mean = jnp.floor(grey(images).astype(jnp.float32).mean(axis=(1, 2, 3), keepdims=True) + 0.5)
    return blend(mean, images, factor)


def sharpness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Towards or away from a smoothed picture: the mean of 3×3 pixels, the middle one five times; edges stay."""
    wide = images.astype(jnp.int32)
    height, width = wide.shape[1] - 2, wide.shape[2] - 2
    if height < 1 or width < 1:
        return images
    total = 4 * wide[:, 1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total += wide[:, row : row + height, column : column + width]
    smooth = images.at[:, 1:-1, 1:-1].set(((2 * total + 13) // 26).astype(jnp.uint8))
    return blend(smooth, images, factor)


def autocontrast(images: jax.Array) -> jax.Array:
    """Each channel stretched so that it reaches from 0 to 255."""
    wide = images.astype(jnp.int32)
    low, high = wide.min(axis=(1, 2), keepdims=True), wide.max(axis=(1, 2), keepdims=True)
    stretched = (wide - low) * 255 // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, wide).astype(jnp.uint8)


def equalize(images: jax.Array) -> jax.Array:
    """Each channel mapped so that its histogram is flat."""
    batch, height, width, channels = images.shape
    pixels = images.reshape(batch, -1, channels).transpose(0, 2, 1).astype(jnp.int32)  # [B, C, N]
    count = lambda values: jnp.zeros(256, jnp.int32).at[values].add(1)
    counts = jax.vmap(jax.vmap(count))(pixels)  # [B, C, 256]
    highest = pixels.max(axis=-1, keepdims=True)
    step = (height * width - jnp.take_along_axis(counts, highest, axis=-1)) // 255
    below = jnp.cumsum(counts, axis=-1) - counts
    table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    mapped = jnp.where(step > 0, jnp.take_along_axis(table, pixels, axis=-1), pixels)
    return mapped.transpose(0, 2, 1).reshape(images.shape).astype(jnp.uint8)


def _posterize(images: jax.Array, bits: jax.Array) -> jax.Array:
    """The highest bits alone."""
    dropped = 8 - bits.astype(jnp.int32)
    return ((images.astype(jnp.int32) >> dropped) << dropped).astype(jnp.uint8)


def _solarize(images: jax.Array, threshold: jax.Array) -> jax.Array:
    """Inverted from the threshold on, of 255."""
    return jnp.where(images.astype(jnp.float32) < threshold, images, 255 - images)


def _solarize_add(images: jax.Array, added: jax.Array) -> jax.Array:
    """Brighter by so much where darker than 128."""
    wide = images.astype(jnp.int32)
    return jnp.where(wide < 128, jnp.minimum(wide + added.astype(jnp.int32), 255), wide).astype(jnp.uint8)


# By operation: (uint8 [B, H, W, C], argument float32 [B, 1, 1, 1]) -> uint8 [B, H, W, C].
_POINTWISE: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "brightness": brightness,
    "color": color,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "invert": lambda images, _: 255 - images,
    "autocontrast": lambda images, _: autocontrast(images),
    "equalize": lambda images, _: equalize(images),
}
