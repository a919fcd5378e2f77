"""Images made from their label, of any shape and any number of classes: for tests, memory checks and speed."""

import dataclasses

import jax
import numpy as np

from mhe_jax.data.dataset import ArraySplit
from mhe_jax.data.images.dataset import ImageData, Images

_CELLS = 4  # a class is a pattern of 4 x 4 cells per channel
_NOISE = 48  # largest change of a pixel, of 255


@dataclasses.dataclass(kw_only=True)
class Synthetic(ImageData):
    """Each class is a coarse pattern computed from its number, each example the pattern with pixel noise.

    Labels are drawn uniformly; evaluation repeats the first labels of training with other noise, so that there is
    something to learn even with more classes than examples. Nothing is held per class.

    image_shape: (height, width, channels).
    num_examples: training pictures.
    num_eval_examples: evaluation pictures, at most num_examples.
    seed: of labels and noise.
    """

    num_classes: int
    image_shape: tuple[int, int, int] = (32, 32, 3)
    num_examples: int = 10_000
    num_eval_examples: int = 1_000
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.num_classes < 1:
            raise ValueError(f"config.data.num_classes is {self.num_classes}; 'synthetic' needs at least 1")
        if not 1 <= self.num_eval_examples <= self.num_examples:
            raise ValueError(
                f"config.data.num_eval_examples is {self.num_eval_examples}; "
                f"it must be from 1 to num_examples = {self.num_examples}"
            )

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return (0.5,) * self.image_shape[-1], (0.25,) * self.image_shape[-1]

    def load(self) -> Images:
        rng = np.random.default_rng(self.seed)
        labels = rng.integers(self.num_classes, size=self.num_examples, dtype=np.int32)
        train, evaluate = (
            ArraySplit(make_images(part, self.image_shape, rng), part)
            for part in (labels, labels[: self.num_eval_examples])
        )
        return Images(train, evaluate, ())

    def augment(self, images: jax.Array, key: jax.Array) -> jax.Array:
        return self.normalize(images)


def make_images(labels: np.ndarray, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """uint8 [N, H, W, C]: the pattern of each label, stretched to the shape, with uniform noise."""
    height, width, channels = shape
    patterns = class_patterns(labels, channels)
    rows, columns = np.arange(height) * _CELLS // height, np.arange(width) * _CELLS // width
    images = np.empty((len(labels), *shape), np.uint8)
    # In blocks, as the noise is wider than the bytes it becomes.
    for start in range(0, len(labels), 256):
        block = patterns[start : start + 256][:, rows[:, None], columns[None, :]].astype(np.int16)
        block += rng.integers(-_NOISE, _NOISE + 1, block.shape, np.int16)
        images[start : start + 256] = np.clip(block, 0, 255)
    return images


def class_patterns(labels: np.ndarray, channels: int) -> np.ndarray:
    """uint8 [N, 4, 4, channels]: a hash of (label, cell), the same on every machine (the splitmix64 finaliser)."""
    cells = np.arange(_CELLS * _CELLS * channels, dtype=np.uint64)
    state = (labels.astype(np.uint64)[:, None] << np.uint64(16)) + cells[None, :] + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return (state >> np.uint64(56)).astype(np.uint8).reshape(-1, _CELLS, _CELLS, channels)
