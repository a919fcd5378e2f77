"""Augmentation that runs inside the jitted step: whole batches on the device, one key per batch.

Images are [B, H, W, C]; geometry is vmapped over examples, so every example draws its own parameters.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp


def to_float(images: jax.Array) -> jax.Array:
    """uint8 -> float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """(images - mean) / std per channel; images float [B, H, W, C] in [0, 1], mean and std of length C."""
    shape = (1, 1, 1, images.shape[-1])
    return (images - jnp.asarray(mean, images.dtype).reshape(shape)) / jnp.asarray(std, images.dtype).reshape(shape)


def flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability one half."""
    mirrored = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1, :], images)


def crop_pad(images: jax.Array, key: jax.Array, padding: int = 4) -> jax.Array:
    """Pads with black on all sides and cuts the original size out at a random place: RandomCrop(size, padding)."""
    batch, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    corners = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, corners)


@dataclasses.dataclass(frozen=True)
class AffineRanges:
    """Largest change in either direction, each drawn uniformly.

    rotation and shear in degrees, scale as a factor around 1 on a log scale, translation as a fraction of the side.
    """

    rotation: float = 10.0
    shear: float = 10.0
    scale: float = 1.15
    translation: float = 0.08


def random_affine(images: jax.Array, key: jax.Array, ranges: AffineRanges, strength: float = 1.0) -> jax.Array:
    """Rotates, shears, scales and shifts each image about its centre, bilinearly, with black from outside.

    Args:
      images: float [B, H, W, C].
      key: PRNG key of the batch.
      ranges: largest changes.
      strength: multiplies the ranges; 0 is the identity.

    Returns:
      float [B, H, W, C].
    """
    batch, height, width, _ = images.shape
    draw = jax.random.uniform(key, (5, batch), minval=-strength, maxval=strength)
    angle = jnp.deg2rad(ranges.rotation) * draw[0]
    shear = jnp.tan(jnp.deg2rad(ranges.shear) * draw[1])
    scale = jnp.exp(jnp.log(ranges.scale) * draw[2])
    shift = ranges.translation * draw[3:] * jnp.array([[height], [width]], jnp.float32)
    # Output pixels are looked up in the input, so these matrices are the inverse change, in (row, column) order.
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    matrices = jnp.stack([cos, -sin, sin + shear * cos, cos - shear * sin], axis=-1).reshape(batch, 2, 2)
    return jax.vmap(_warp)(images, matrices / scale[:, None, None], shift.T)


def _warp(image: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    """One image [H, W, C] sampled at centre + matrix @ (pixel - centre - shift)."""
    height, width, _ = image.shape
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2], jnp.float32)
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")).reshape(2, -1)
    offset = grid.astype(jnp.float32) - (centre + shift)[:, None]
    rows, columns = jnp.matmul(matrix, offset, precision="highest") + centre[:, None]
    sample = functools.partial(jax.scipy.ndimage.map_coordinates, order=1, mode="constant")
    sampled = jax.vmap(lambda channel: sample(channel, [rows, columns]), in_axes=2, out_axes=1)(image)
    return sampled.reshape(image.shape)


def noise(images: jax.Array, key: jax.Array, std: float) -> jax.Array:
    """Adds Gaussian pixel noise to images in [0, 1] and clips."""
    return jnp.clip(images + std * jax.random.normal(key, images.shape, images.dtype), 0.0, 1.0)
