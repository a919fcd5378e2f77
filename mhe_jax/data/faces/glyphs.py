"""Verification without a download: drawn characters in place of faces, in twelve typefaces."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from mhe_jax.data.dataset import ArraySplit, DataError, PairedSplit
from mhe_jax.data.faces.dataset import FaceData, identity_facts
from mhe_jax.data.faces.glyph_pairs import glyph_pairs
from mhe_jax.data.faces.pairing import require_num_pairs
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.images.glyphs import Glyphs, cached_drawings, character_name


@dataclasses.dataclass(kw_only=True)
class FaceGlyphs(FaceData):
    """An identity is a character, each typeface one picture of it; some characters are held out altogether.

    The held-out characters are verified in two sets, 'glyphs' and 'glyphs_hard': see glyph_pairs.

    image_size: side of the drawings in pixels, at least 16.
    held_out_classes: how many characters, drawn by `seed`, are kept from training.
    num_pairs: of each verification set, half of them of one character.
    augmentation, noise: as for data 'glyphs'. Nothing is mirrored, as a mirrored d is a b.
    seed: of the characters that are held out and of the pairs.
    """

    flip_embeddings: ClassVar[bool] = False

    image_size: int = 32
    held_out_classes: int = 500
    num_pairs: int = 3000
    augmentation: float = 1.0
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        self._glyphs = Glyphs(image_size=self.image_size, augmentation=self.augmentation, noise=self.noise)
        if self.held_out_classes < 2:
            raise ValueError(f"config.data.held_out_classes is {self.held_out_classes}; pairs need at least 2")
        require_num_pairs(self.num_pairs)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._glyphs.image_shape

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self._glyphs.moments

    def load(self) -> Images:
        images, labels, faces, characters = cached_drawings(self.image_size)
        found = len(characters) - self.held_out_classes
        if found < 2:
            raise DataError(
                f"config.data.held_out_classes is {self.held_out_classes}, but there are {len(characters)} characters: "
                "training needs at least 2"
            )
        self.accept_classes(found, f"what is not held out of {len(characters)} characters")
        rng = np.random.default_rng(self.seed)
        held_out = np.zeros(len(characters), bool)
        held_out[rng.permutation(len(characters))[: self.held_out_classes]] = True
        kept = ~held_out[labels]
        identities = np.cumsum(~held_out, dtype=np.int32) - 1  # the numbers of the trained characters, without gaps
        train = ArraySplit(images[kept], identities[labels[kept]])
        verified = images[~kept]
        pairs = glyph_pairs(verified, labels[~kept], faces[~kept], self.num_pairs, rng)
        return Images(
            train,
            PairedSplit(ArraySplit(verified, np.zeros(len(verified), np.int32)), pairs),
            tuple(character_name(int(code)) for code in characters[~held_out]),
            facts=identity_facts(train.labels, found, "data 'face_glyphs'"),
        )

    def augment(self, images: jax.Array, key: jax.Array) -> jax.Array:
        return self._glyphs.augment(images, key)

    def decode_image(self, encoded: bytes, where: str) -> np.ndarray:
        return self._glyphs.decode_image(encoded, where)
