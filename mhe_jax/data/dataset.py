"""What a data set is: named classes and two splits, held in memory or loaded example by example."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from mhe_jax.data import augment, decode


class DataError(ValueError):
    """The data on disk is missing or is not what the config says; one line naming the folder, file or field."""


@dataclasses.dataclass(frozen=True)
class ArraySplit:
    """A split held in memory, and on the device while training: uint8 images [N, h, w, C], int32 labels [N]."""

    images: np.ndarray
    labels: np.ndarray
    bad_examples: int = 0

    @property
    def num_examples(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class StreamSplit:
    """A split whose examples are read and decoded when they are needed.

    load_example(index, rng) -> (uint8 image [H, W, C], label); rng is None for evaluation. It must be picklable, and
    raises decode.BadExample for an example that cannot be read: on_bad_example says whether to 'raise' it or 'skip'.
    num_workers: processes that load; 0 loads in threads of this process.
    """

    num_examples: int
    load_example: Callable[[int, np.random.Generator | None], tuple[np.ndarray, int]]
    num_workers: int = 0
    on_bad_example: str = "raise"


Split = ArraySplit | StreamSplit


@dataclasses.dataclass(frozen=True)
class Pairs:
    """A verification set: pairs of pictures, and whether both show one identity.

    name: names the set's metrics: `lfw`. first, second: int32 [P] into the pictures of the split. same: bool [P].
    """

    name: str
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray


@dataclasses.dataclass(frozen=True)
class PairedSplit:
    """Pictures whose labels mean nothing, and the verification sets over them; evaluated by embeddings of all."""

    images: Split
    pairs: tuple[Pairs, ...]

    @property
    def num_examples(self) -> int:
        return self.images.num_examples


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

    num_classes: int = 0
    last_batch: str = "drop"

    def __post_init__(self):
        require_one_of("last_batch", self.last_batch, ("drop", "keep"))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of what the backbone sees."""
        raise NotImplementedError

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) per channel, of pixels in [0, 1], that `normalize` removes."""
        raise NotImplementedError

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
        height, width, channels = self.image_shape
        image = decode.decode(decode.read_bytes(path), channels, str(path))
        return decode.center_crop(decode.resize_shorter(image, max(height, width)), (height, width))

    def accept_classes(self, found: int, where: str) -> None:
        """Checks num_classes against what was found, or takes it over if it is 0."""
        if self.num_classes not in (0, found):
            raise DataError(f"config.data.num_classes is {self.num_classes} but {where} has {found} classes")
        self.num_classes = found


def require_one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless the config.data field has one of the accepted values."""
    if value not in choices:
        raise ValueError(f"config.data.{field} is {value!r}; it must be one of {', '.join(map(repr, choices))}")
