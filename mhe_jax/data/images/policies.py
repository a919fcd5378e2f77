"""RandAugment and TrivialAugment: which operation each picture gets, and how much of it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mhe_jax.data.images.operations import OPERATIONS, Drawn, apply


class Choice(NamedTuple):
    """An operation of a policy.

    argument: of a level in 0 .. 1, float32 [B], a sign, 1 or -1, and the picture's (height, width).
    """

    operation: str
    argument: Callable[[jax.Array, jax.Array, tuple[int, int]], jax.Array]


def _without_argument(level: jax.Array, sign: jax.Array, size: tuple[int, int]) -> jax.Array:
    return jnp.zeros_like(level)


def _torchvision(shear: float, shift: Callable[[int], float], degrees: float, enhanced: float, bits: int):
    """The operations that torchvision's RandAugment and TrivialAugmentWide draw from, up to these arguments."""
    enhance = lambda level, sign, size: 1 + sign * enhanced * level
    return (
        Choice("identity", _without_argument),
        Choice("shear_x", lambda level, sign, size: sign * shear * level),
        Choice("shear_y", lambda level, sign, size: sign * shear * level),
        Choice("translate_x", lambda level, sign, size: sign * jnp.trunc(shift(size[1]) * level)),
        Choice("translate_y", lambda level, sign, size: sign * jnp.trunc(shift(size[0]) * level)),
        Choice("rotate", lambda level, sign, size: sign * degrees * level),
        *(Choice(name, enhance) for name in ("brightness", "color", "contrast", "sharpness")),
        Choice("posterize", lambda level, sign, size: jnp.round(8 - bits * level)),
        Choice("solarize", lambda level, sign, size: 255 * (1 - level)),
        Choice("autocontrast", _without_argument),
        Choice("equalize", _without_argument),
    )


RANDAUGMENT = _torchvision(shear=0.3, shift=lambda side: 150 / 331 * side, degrees=30.0, enhanced=0.9, bits=4)
TRIVIAL = _torchvision(shear=0.99, shift=lambda side: 32.0, degrees=135.0, enhanced=0.99, bits=6)

_timm_enhance = lambda level, sign, size: jnp.maximum(0.1, 1 + sign * 0.9 * level)
# timm's with `inc1`: a higher level changes more, whichever operation it is.
TIMM = (
    Choice("autocontrast", _without_argument),
    Choice("equalize", _without_argument),
    Choice("invert", _without_argument),
    Choice("rotate", lambda level, sign, size: sign * 30 * level),
    Choice("posterize", lambda level, sign, size: 4 - jnp.trunc(4 * level)),
    Choice("solarize", lambda level, sign, size: 256 - jnp.trunc(256 * level)),
    Choice("solarize_add", lambda level, sign, size: jnp.trunc(110 * level)),
    *(Choice(name, _timm_enhance) for name in ("color", "contrast", "brightness", "sharpness")),
    Choice("shear_x", lambda level, sign, size: sign * 0.3 * level),
    Choice("shear_y", lambda level, sign, size: sign * 0.3 * level),
    Choice("translate_x", lambda level, sign, size: sign * 0.45 * size[1] * level),
    Choice("translate_y", lambda level, sign, size: sign * 0.45 * size[0] * level),
)

BINS = 31  # of torchvision's levels, 0 .. 30
TIMM_LEVELS = 10.0


def randaugment_levels(batch: int, magnitude: float) -> jax.Array:
    """The level of torchvision's RandAugment: the same for all pictures."""
    return jnp.full(batch, magnitude / (BINS - 1), jnp.float32)


def trivial_levels(key: jax.Array, batch: int) -> jax.Array:
    """Those of TrivialAugment: any of 31."""
    return jax.random.randint(key, (batch,), 0, BINS).astype(jnp.float32) / (BINS - 1)


def timm_levels(key: jax.Array, batch: int, magnitude: float, std: float) -> jax.Array:
    """Those of timm's RandAugment: normally distributed, within 0 .. 1."""
    return jnp.clip((magnitude + std * jax.random.normal(key, (batch,))) / TIMM_LEVELS, 0.0, 1.0)


def draw(
    key: jax.Array, choices: tuple[Choice, ...], levels: jax.Array, size: tuple[int, int], share: float = 1.0
) -> Drawn:
    """One of `choices` for each picture, all equally probable, with either sign.

    Args:
      key: of the batch.
      choices: what is drawn from.
      levels: float32 [B] in 0 .. 1.
      size: height and width of the pictures.
      share: of the pictures that get it; the others stay as they are.
    """
    which_key, sign_key, share_key = jax.random.split(key, 3)
    which = jax.random.randint(which_key, levels.shape, 0, len(choices))
    sign = jnp.where(jax.random.bernoulli(sign_key, shape=levels.shape), 1.0, -1.0)
    arguments = jnp.stack([choice.argument(levels, sign, size) for choice in choices])
    operation = jnp.array([OPERATIONS.index(choice.operation) for choice in choices], jnp.int32)[which]
    if share < 1:
        operation = jnp.where(jax.random.bernoulli(share_key, share, levels.shape), operation, 0)
    return Drawn(operation, jnp.take_along_axis(arguments, which[None], axis=0)[0])


def randaugment(images: jax.Array, key: jax.Array, num_ops: int, magnitude: float) -> jax.Array:
    """RandAugment as torchvision has it (Cubuk et al., NeurIPS 2020, arXiv 1909.13719): uint8 [B, H, W, C].

    Args:
      images: uint8 [B, H, W, C].
      key: of the batch.
      num_ops: operations for each picture, one after the other.
      magnitude: 0 .. 30.
    """
    batch, height, width, channels = images.shape
    for one in jax.random.split(key, num_ops):
        levels = randaugment_levels(batch, magnitude)
        images = apply(images, draw(one, RANDAUGMENT, levels, (height, width)), (0.0,) * channels)
    return images


def trivial(images: jax.Array, key: jax.Array) -> jax.Array:
    """TrivialAugmentWide (Müller and Hutter, ICCV 2021, arXiv 2103.10158): one operation, any magnitude."""
    batch, height, width, channels = images.shape
    level_key, key = jax.random.split(key)
    levels = trivial_levels(level_key, batch)
    return apply(images, draw(key, TRIVIAL, levels, (height, width)), (0.0,) * channels)


def timm_randaugment(
    images: jax.Array, key: jax.Array, num_ops: int, magnitude: float, std: float, fill: tuple[float, ...]
) -> jax.Array:
    """RandAugment as timm's `rand-m{magnitude}-mstd{std}-inc1`: each operation for half of the pictures.

    Args:
      images: uint8 [B, H, W, C].
      key: of the batch.
      num_ops: operations for each picture, one after the other.
      magnitude: mean of the level, 0 .. 10.
      std: its standard deviation.
      fill: what a warp shows from outside, of 255: timm takes the mean colour.
    """
    batch, height, width, _ = images.shape
    for one in jax.random.split(key, num_ops):
        level_key, draw_key = jax.random.split(one)
        levels = timm_levels(level_key, batch, magnitude, std)
        images = apply(images, draw(draw_key, TIMM, levels, (height, width), share=0.5), fill)
    return images
