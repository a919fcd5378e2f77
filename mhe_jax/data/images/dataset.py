"""What a data set of images is: named classes, splits, and what becomes of pixels on their way to the backbone."""

import dataclasses
import pathlib
from typing import ClassVar

import jax
import numpy as np

from mhe_jax.data.dataset import DataError, PairedSplit, Split, require_one_of
from mhe_jax.data.images import augment, decode, views


@dataclasses.dataclass(frozen=True)
class Images:
    """A loaded data set; class_names is empty where classes have no names.

    test: examples that are evaluated once, after training, where `eval` chose the best checkpoint.
    facts: what is worth keeping beside a result, for result.json.
    """

    train: Split
    eval: Split | PairedSplit
    class_names: tuple[str, ...]
    test: Split | None = None
    facts: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(kw_only=True)
class ImageData:
    """Base of the image data sets; the fields of a subclass are the fields of `config.data`.

    Constructing reads no file: `load` does.

    num_classes: 0 takes the number that `load` finds; otherwise `load` checks it.
    last_batch: 'drop' or 'keep' the smaller batch at the end of a training epoch.
    """

    # What of a batch the backbone takes.
    input_name: ClassVar[str] = "image"
    # Whether an example has any number of labels; otherwise it has one class.
    multilabel: bool = dataclasses.field(default=False, init=False, repr=False)

    num_classes: int = 0
    last_batch: str = "drop"

    def __post_init__(self):
        require_one_of("last_batch", self.last_batch, ("drop", "keep"))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of an example as the backbone sees it."""
        return self.image_shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of what the backbone sees."""
        raise NotImplementedError

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) per channel, of pixels in [0, 1], that `normalize` removes."""
        raise NotImplementedError

    @property
    def streamed(self) -> bool:
        """Whether pictures are decoded when they are needed; otherwise they are all on the device."""
        return False

    def load(self) -> Images:
        """Reads or creates the data; raises DataError when it is missing or differs from the config."""
        raise NotImplementedError

    def abstract_batch(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a training batch, without any data."""
        return {
            "image": jax.ShapeDtypeStruct((batch_size, *self.image_shape), np.uint8),
            "label": jax.ShapeDtypeStruct((batch_size,), np.int32),
            "weight": jax.ShapeDtypeStruct((batch_size,), np.float32),
        }

    def augment(self, images: jax.Array, key: jax.Array) -> jax.Array:
        """Training batch, traced: uint8 [B, h, w, C] -> augmented, normalised float32 [B, H, W, C]."""
        raise NotImplementedError

    def normalize(self, images: jax.Array) -> jax.Array:
        """Evaluation batch, traced: uint8 [B, H, W, C] -> float32 [B, H, W, C] of about zero mean and unit variance."""
        return augment.normalize(augment.to_float(images), *self.moments)

    def read_image(self, path: str | pathlib.Path) -> np.ndarray:
        """One picture as evaluation would see it: uint8 [H, W, C]. Raises decode.BadExample naming the file."""
        return self.decode_image(decode.read_bytes(path), str(path))

    def decode_image(self, encoded: bytes, where: str) -> np.ndarray:
        """As `read_image`, of a file's content; `where` names it in the message of a decode.BadExample."""
        height, width, channels = self.image_shape
        image = decode.decode(encoded, channels, where)
        return views.central(image, max(height, width), (height, width))

    def accept_classes(self, found: int, where: str) -> None:
        """Checks num_classes against what was found, or takes it over if it is 0."""
        if self.num_classes not in (0, found):
            raise DataError(f"config.data.num_classes is {self.num_classes} but {where} has {found} classes")
        self.num_classes = found
