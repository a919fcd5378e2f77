"""Data sets of encoded pictures: any source of (bytes, label), streamed or decoded once into memory."""

import concurrent.futures
import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Generator

import jax
import numpy as np
import tqdm

from mhe_jax.data.dataset import ArraySplit, Split, StreamSplit, require_at_least, require_one_of
from mhe_jax.data.images import augment, decode, views
from mhe_jax.data.images.dataset import ImageData, Images
from mhe_jax.data.images.examples import LoadExample, Source
from mhe_jax.settings import option


@dataclasses.dataclass(kw_only=True)
class EncodedImages(ImageData):
    """Base of the data sets of picture files and records.

    Streamed, the default: training with augmentation 'flip_crop' is RandomResizedCrop(image_size) and flip on the host;
    evaluation is Resize(image_size * 256 / 224) and CenterCrop(image_size), as in torchvision's ImageNet recipe.
    in_memory, for small pictures: all decoded once with Resize(image_size) and CenterCrop, and kept on the device;
    'flip_crop' is then a crop of the image padded by 4 and a flip.
    augmentation 'affine' turns, shears, scales and shifts on the device instead, 'none' does nothing; 'auto' is
    'affine' for grey pictures, which are mostly drawings or writing, and 'flip_crop' for colour.

    path: the folder of the data set.
    in_memory: decode all pictures once and keep them on the device; otherwise they are decoded when needed.
    augmentation: 'flip_crop', 'affine', 'none' or 'auto', as told above.
    image_size: side of what the backbone sees.
    antialias: resize the random crops of training as evaluation resizes, and as torchvision does unless told otherwise.
      False takes half the time: a crop is resized between the four nearest pixels, and a JPEG is decoded at a half, a
      quarter or an eighth of its size where the crop has still image_size pixels then.
    channels: 3 or 1 (grey); 0 is 3 if one of a sample of the training pictures has colours, else 1. A run keeps what
      was found, as it keeps what 'auto' and a batch of 0 became.
    num_workers: processes that decode on a machine, shared out evenly among the processes of the run there; -1 is one
      for each of its cores, 0 decodes in threads. Pictures that are kept in memory are decoded in threads.
    on_bad_example: 'raise' for an unreadable picture or 'skip' it (weight 0, counted in feed.bad_examples).
    mean, std: per channel, or one number for all of them, of pixels in [0, 1].
    """

    path: str = option(free=True)
    image_size: int = 224
    channels: int = 3
    in_memory: bool = False
    augmentation: str = "flip_crop"
    antialias: bool = True
    num_workers: int = option(0, free=True)
    on_bad_example: str = option("raise", free=True)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self):
        super().__post_init__()
        require_one_of("augmentation", self.augmentation, ("flip_crop", "affine", "none", "auto"))
        require_one_of("on_bad_example", self.on_bad_example, ("raise", "skip"))
        if self.channels not in (0, 1, 3):
            raise ValueError(
                f"config.data.channels is {self.channels}; it must be 3 (RGB), 1 (grey) or 0 (as the pictures are)"
            )
        require_at_least("num_workers", self.num_workers, -1)
        for field in ("mean", "std"):
            if len(getattr(self, field)) not in (1, self.channels):
                raise ValueError(
                    f"config.data.{field} is {getattr(self, field)}; channels = {self.channels} needs "
                    + ("as many, or one for all" if self.channels else "one for all")
                )

    @property
    def streamed(self) -> bool:
        return not self.in_memory

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.image_size, self.image_size, self.channels)

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        mean, std = (values * self.channels if len(values) == 1 else values for values in (self.mean, self.std))
        return tuple(mean), tuple(std)

    @property
    def resize_size(self) -> int:
        """The shorter side before the central crop of evaluation."""
        return self.image_size if self.in_memory else round(self.image_size * 256 / 224)

    def sources(self) -> tuple[Source, Source, tuple[str, ...]]:
        """(train, eval, class names); raises DataError."""
        raise NotImplementedError

    def load(self) -> Images:
        train, evaluate, class_names = self.sources()
        self.accept_classes(len(class_names), self.path)
        self.channels = self.channels or find_channels(train)
        if self.augmentation == "auto":
            self.augmentation = "affine" if self.channels == 1 else "flip_crop"
        return Images(self._split(train, "train"), self._split(evaluate, "eval"), class_names)

    def _split(self, source: Source, name: str) -> Split:
        crop = self.augmentation == "flip_crop" and not self.in_memory
        load = LoadExample(source, self.image_size, self.channels, self.resize_size, crop, self.antialias)
        if self.in_memory:
            return decode_all(load, len(source), f"{name} of {self.path}", self.on_bad_example)
        return StreamSplit(len(source), load, self.num_workers, self.on_bad_example, random=crop)

    def augment(self, images: jax.Array, key: jax.Array) -> jax.Array:
        crop_key, flip_key = jax.random.split(key)
        if self.augmentation == "flip_crop" and self.in_memory:
            images = augment.flip(augment.crop_pad(images, crop_key), flip_key)
        pixels = augment.to_float(images)
        if self.augmentation == "affine":
            pixels = augment.random_affine(pixels, crop_key, augment.AffineRanges())
        return augment.normalize(pixels, *self.moments)

    def decode_image(self, encoded: bytes, where: str) -> np.ndarray:
        image = decode.decode(encoded, self.channels, where)
        return views.central(image, self.resize_size, (self.image_size,) * 2)


def find_channels(source: Source, sample: int = 64) -> int:
    """3 if one of `sample` pictures, evenly spaced over the source, has a pixel of colour, else 1.

    Pixels decide, and not the mode of the file: drawings are often saved as RGB. Unreadable pictures are passed over.
    """
    count = len(source)
    for index in sorted({place * count // sample for place in range(sample)} if count else ()):
        with contextlib.suppress(decode.BadExample):
            data, _, where = source.read(index)
            pixels = decode.decode(data, 3, where)
            if (pixels != pixels[:, :, :1]).any():
                return 3
    return 1


def decode_all(
    load: Callable[[int, None], tuple[np.ndarray, int]], count: int, title: str, on_bad_example: str
) -> ArraySplit:
    """Loads every example with a thread pool and a progress bar; with 'skip', bad ones are left out and counted.

    Raises:
      decode.BadExample: with 'raise', for the first unreadable example; with 'skip', if none can be read.
    """
    images, labels, error, kept = None, np.empty(count, np.int32), None, 0
    with contextlib.closing(_attempts(load, count, title)) as results:
        for result in results:
            if isinstance(result, decode.BadExample):
                error = result
                if on_bad_example == "raise":
                    raise error
                continue
            if images is None:
                images = np.empty((count, *result[0].shape), np.uint8)
            images[kept], labels[kept] = result
            kept += 1
    if images is None:
        raise decode.BadExample(f"{title}: no example can be read; the last one: {error}")
    if error is not None:
        warnings.warn(f"{title}: {count - kept} unreadable examples are left out; the last one: {error}", stacklevel=2)
    return ArraySplit(images[:kept], labels[:kept], count - kept)


def check_all(load: Callable[[int, None], tuple[np.ndarray, int]], count: int, title: str) -> None:
    """Loads every example as `decode_all`, but keeps none; raises decode.BadExample for the first unreadable one."""
    with contextlib.closing(_attempts(load, count, title)) as results:
        for result in results:
            if isinstance(result, decode.BadExample):
                raise result


def _attempts(
    load: Callable[[int, None], tuple[np.ndarray, int]], count: int, title: str
) -> Generator[tuple[np.ndarray, int] | decode.BadExample]:
    """What `load` returns or raises of each example in turn, by threads, with a progress bar on a terminal."""

    def attempt(index: int) -> tuple[np.ndarray, int] | decode.BadExample:
        try:
            return load(index, None)
        except decode.BadExample as error:
            return error

    with concurrent.futures.ThreadPoolExecutor() as pool:
        try:
            # disable=None shows the bar on a terminal only.
            yield from tqdm.tqdm(pool.map(attempt, range(count)), title, count, disable=None, leave=False)
        finally:
            pool.shutdown(cancel_futures=True)
