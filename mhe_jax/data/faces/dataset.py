"""What a face data set is: pictures of identities to train on, and pairs of pictures of others to verify."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images import augment
from mhe_jax.data.images.dataset import ImageData


@dataclasses.dataclass(kw_only=True)
class FaceData(ImageData):
    """Base of the face data sets: `load` returns identities as training classes, and a PairedSplit as evaluation.

    flip_embeddings: whether a mirrored picture shows the same identity, so that the embedding that is verified is the
    sum of the picture's and the mirrored picture's.
    """

    flip_embeddings: ClassVar[bool] = True

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        half = (0.5,) * self.image_shape[-1]
        return half, half

    def augment(self, images: jax.Array, key: jax.Array) -> jax.Array:
        return self.normalize(augment.flip(images, key))


def identity_facts(labels: np.ndarray, num_identities: int, where: str) -> dict[str, int]:
    """Counts the pictures of each identity, for result.json.

    Args:
      labels: int32 [N], the identity of each training picture.
      num_identities: how many there are; some may have a single picture, or none.
      where: file or folder, for messages.

    Returns:
      How many images, identities, identities with one image only and identities without any.

    Raises:
      DataError: for a label outside 0 .. num_identities - 1, and for fewer than 2 identities.
    """
    if num_identities < 2:
        raise DataError(f"{where} has {num_identities} identities: training needs at least 2")
    outside = np.flatnonzero((labels < 0) | (labels >= num_identities))
    if len(outside):
        raise DataError(
            f"{where}: example {outside[0]} has label {labels[outside[0]]}, "
            f"which is not an identity from 0 to {num_identities - 1}"
        )
    counts = np.bincount(labels, minlength=num_identities)
    return {
        "images": len(labels),
        "identities": num_identities,
        "single_image_identities": int(np.sum(counts == 1)),
        "identities_without_images": int(np.sum(counts == 0)),
    }
