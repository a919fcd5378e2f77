"""Mixup and CutMix: each picture of a batch is mixed with its neighbour, and belongs to two classes by shares."""

import jax
import jax.numpy as jnp

from mhe_jax.data.images.erasing import Boxes, within


def neighbour(x: jax.Array) -> jax.Array:
    """Rows 2k and 2k + 1 of [B, ...] in each other's place; the last of an odd number stays.

    The order of examples is random, so that any pairing is; this one moves nothing from device to device.
    """
    even = len(x) // 2 * 2
    swapped = x[:even].reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(even, *x.shape[1:])
    return swapped if even == len(x) else jnp.concatenate([swapped, x[even:]])


def draw(key: jax.Array, size: tuple[int, int], mixup: float, cutmix: float) -> tuple[jax.Array, jax.Array, Boxes]:
    """How a batch is mixed: by Mixup or by CutMix, each half of the time where both are on.

    Args:
      key: of the batch.
      size: height and width of the pictures.
      mixup: alpha of Mixup's Beta(alpha, alpha), 0: none.
      cutmix: that of CutMix.

    Returns:
      the share of a picture's own class in its labels, float32 []; how much of its own pixels it keeps everywhere, and
      the box that is cut out of the neighbour. Of a CutMix the share is what the box leaves, so that one that reaches
      over the edge counts as what is seen of it; where Mixup was drawn the box is empty.
    """
    mixup_key, cutmix_key, box_key, which_key = jax.random.split(key, 4)
    is_cut = jax.random.bernoulli(which_key) if mixup and cutmix else jnp.bool_(cutmix > 0)
    beta = lambda key, alpha: jax.random.beta(key, alpha, alpha) if alpha else jnp.float32(1)
    kept = jnp.where(is_cut, 1.0, beta(mixup_key, mixup))
    box = cut_box(box_key, size, jnp.where(is_cut, beta(cutmix_key, cutmix), 1.0))
    area = (box.bottom - box.top) * (box.right - box.left)
    share = jnp.where(is_cut, 1 - area / (size[0] * size[1]), kept)
    return share.astype(jnp.float32), kept.astype(jnp.float32), box


def cut_box(key: jax.Array, size: tuple[int, int], share: jax.Array) -> Boxes:
    """A box of the picture's aspect and 1 - share of its area about a random place, cut off at the edges; int32 []."""
    height, width = size
    half = [jnp.floor(0.5 * jnp.sqrt(1 - share) * side).astype(jnp.int32) for side in size]
    row, column = (jax.random.randint(one, (), 0, side) for one, side in zip(jax.random.split(key), size, strict=True))
    return Boxes(
        jnp.clip(row - half[0], 0, height),
        jnp.clip(row + half[0], 0, height),
        jnp.clip(column - half[1], 0, width),
        jnp.clip(column + half[1], 0, width),
    )


def mix(images: jax.Array, key: jax.Array, mixup: float, cutmix: float) -> tuple[jax.Array, jax.Array]:
    """Mixed pictures, float [B, H, W, C], and the share of their own labels, float32 [B]; the rest is `neighbour`'s.

    Mixup: Zhang et al., ICLR 2018, arXiv 1710.09412. CutMix: Yun et al., ICCV 2019, arXiv 1905.04899. As timm and
    torchvision do it: one share and one box for the batch.
    """
    _, height, width, _ = images.shape
    share, kept, box = draw(key, (height, width), mixup, cutmix)
    others = neighbour(images)
    blended = kept * images + (1 - kept) * others
    inside = within(Boxes(*(edge[None] for edge in box)), height, width)
    return jnp.where(inside, others, blended).astype(images.dtype), jnp.full(len(images), share)
