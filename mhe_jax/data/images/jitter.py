"""Colour jitter: brightness, contrast, saturation and hue of each picture, changed at random."""

import jax
import jax.numpy as jnp

from mhe_jax.data.images.operations import brightness, color, contrast


def jitter(images: jax.Array, key: jax.Array, ranges: tuple[float, ...]) -> jax.Array:
    """torchvision's ColorJitter: uint8 [B, H, W, C], 3 channels, of which one batch has one order of the four changes.

    Args:
      images: uint8 [B, H, W, C].
      key: of the batch.
      ranges: of brightness, contrast and saturation the largest change of their factor 1; of hue that of the angle, as
        a part of the circle, at most 0.5.
    """
    order_key, key = jax.random.split(key)
    changes = (brightness, contrast, color, hue)
    # No factor is below 0, however large its range.
    draws = [
        jax.random.uniform(one, (len(images), 1, 1, 1), minval=-min(largest, 1), maxval=largest)
        for one, largest in zip(jax.random.split(key, len(changes)), ranges, strict=True)
    ]
    factors = jnp.stack([1 + draw for draw in draws[:3]] + draws[3:])
    order = jax.random.permutation(order_key, len(changes))

    def change(place, images):
        return jax.lax.switch(order[place], changes, images, factors[order[place]])

    return jax.lax.fori_loop(0, len(changes), change, images)


def hue(images: jax.Array, turn: jax.Array) -> jax.Array:
    """The hue turned by a part of the circle [B, 1, 1, 1]; value and saturation stay, and so does what is grey."""
    if images.shape[-1] != 3:
        return images
    red, green, blue = jnp.moveaxis(images.astype(jnp.float32) / 255, -1, 0)
    high, low = jnp.maximum(jnp.maximum(red, green), blue), jnp.minimum(jnp.minimum(red, green), blue)
    spread = high - low
    safe = jnp.where(spread > 0, spread, 1)
    sixth = jnp.where(
        high == red,
        (green - blue) / safe,
        jnp.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixth = jnp.mod(sixth + 6 * turn[..., 0], 6)

    def channel(offset):
        """Each colour is full for two sixths of the circle, none for two, and between in the others."""
        place = jnp.mod(offset + sixth, 6)
        return high - spread * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    turned = jnp.stack([channel(5), channel(3), channel(1)], axis=-1)
    return jnp.round(255 * turned).astype(jnp.uint8)
