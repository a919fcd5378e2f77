"""One encoded picture of a source as training or evaluation sees it; imported by the processes that decode."""

import dataclasses
from typing import Any, Protocol

import numpy as np

from mhe_jax.data.images import decode, jpeg, views


class Source(Protocol):
    """Encoded examples by index; picklable."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[bytes, int, str]:
        """(encoded image, label, name of the file or record)."""

    def identity(self) -> tuple[Any, ...]:
        """What decides which example is which, wherever it lies: arrays, texts, numbers and sequences of these."""


@dataclasses.dataclass(frozen=True)
class LoadExample:
    """Reads, decodes and crops one example of a source, at random and flipped if `random_crop` and rng are given.

    antialias: whether a random crop is cut out of the whole picture and resized as evaluation resizes. Otherwise a JPEG
    is decoded at a half, a quarter or an eighth of its size as long as that leaves the crop `image_size` pixels, and
    the crop is resized by `views.bilinear`.
    """

    source: Source
    image_size: int
    channels: int
    resize_size: int
    random_crop: bool = False
    antialias: bool = True

    def __call__(self, index: int, rng: np.random.Generator | None) -> tuple[np.ndarray, int]:
        data, label, where = self.source.read(index)
        if self.random_crop and rng is not None:
            return self._random_view(data, where, rng), label
        image = decode.decode(data, self.channels, where)
        return views.central(image, self.resize_size, (self.image_size,) * 2), label

    def _random_view(self, data: bytes, where: str, rng: np.random.Generator) -> np.ndarray:
        """RandomResizedCrop(image_size), then mirrored with probability one half."""
        size = (self.image_size,) * 2
        frame = None if self.antialias else jpeg.frame_size(data)
        if frame is None:
            image = decode.decode(data, self.channels, where)
            height, width = image.shape[:2]
            crop = views.cut(image, views.random_resized_crop_box(height, width, rng))
        else:
            box = views.random_resized_crop_box(frame[1], frame[0], rng)
            times = views.reduction(box, self.image_size)
            image = decode.decode(data, self.channels, where, times)
            crop = views.cut(image, box, 1 if image.shape[1::-1] == frame else times)
        view = views.resize(crop, size) if self.antialias else views.bilinear(crop, size)
        return views.mirror(view) if rng.random() < 0.5 else view
