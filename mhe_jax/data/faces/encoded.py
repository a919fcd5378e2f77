"""Face data sets of encoded pictures, in files or records: streamed, or decoded once into memory."""

import dataclasses
import io
import warnings

import jax
import numpy as np
import PIL.Image

from mhe_jax.data.dataset import PairedSplit, Split, StreamSplit, require_at_least, require_one_of
from mhe_jax.data.faces.dataset import FaceData, identity_facts
from mhe_jax.data.faces.eval_sets import read_eval_sets, require_eval_sets
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.images.encoded import check_all, decode_all
from mhe_jax.data.images.examples import LoadExample, Source
from mhe_jax.settings import option

_PROBED = 500  # pictures of a split whose size is looked at before training


@dataclasses.dataclass(frozen=True)
class Identities:
    """The training pictures, and the identities, 0 .. num_identities - 1, of those that are known to be readable.

    labels: int32 [n], in any order. names: of the identities, or empty.
    """

    source: Source
    labels: np.ndarray
    num_identities: int
    names: tuple[str, ...]


@dataclasses.dataclass(kw_only=True)
class EncodedFaces(FaceData):
    """Base of the face data sets on disk. Pictures are aligned faces, and are used whole.

    A picture of another size is resized by its shorter side and cut centrally, in training and evaluation alike.

    path: the folder of the training pictures and of the verification sets.
    eval_sets: files in `path`: `.bin`, or `.txt` with lines of two pictures and whether they show one identity.
    eval_root: folder in `path` from which the `.txt` files name pictures.
    image_size, channels: what the backbone sees; channels is 3 (RGB) or 1 (grey).
    flip: mirror half of the training pictures.
    in_memory: decode all pictures once and keep them on the device; otherwise they are decoded when needed.
    num_workers: processes that decode for training on a machine, shared out evenly among the processes of the run
      there; -1 is one for each of its cores, 0 decodes in threads. Pairs are always decoded in threads.
    on_bad_example: 'raise' for an unreadable training picture or 'skip' it (weight 0, counted in feed.bad_examples).
      An unreadable picture of a verification set is always an error: without it the set is another one. It is found
      by `load`, which decodes them all once.
    """

    path: str = option(free=True)
    eval_sets: tuple[str, ...] = ()
    eval_root: str = option("val", free=True)
    image_size: int = 112
    channels: int = 3
    flip: bool = True
    in_memory: bool = False
    num_workers: int = option(0, free=True)
    on_bad_example: str = option("raise", free=True)

    def __post_init__(self):
        super().__post_init__()
        require_one_of("on_bad_example", self.on_bad_example, ("raise", "skip"))
        if self.channels not in (1, 3):
            raise ValueError(f"config.data.channels is {self.channels}; it must be 3 (RGB) or 1 (grey)")
        if self.image_size < 1:
            raise ValueError(f"config.data.image_size is {self.image_size}; it must be at least 1")
        require_at_least("num_workers", self.num_workers, -1)
        require_eval_sets(self.eval_sets)

    @property
    def streamed(self) -> bool:
        return not self.in_memory

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.image_size, self.image_size, self.channels)

    def identities(self) -> Identities:
        """Lists the training pictures; raises DataError."""
        raise NotImplementedError

    def load(self) -> Images:
        train = self.identities()
        facts = identity_facts(train.labels, train.num_identities, self.path)
        self.accept_classes(train.num_identities, self.path)
        pictures, pairs = read_eval_sets(self.path, self.eval_sets, self.eval_root)
        shown = self._split(train.source, "train", self.num_workers, self.on_bad_example)
        verification = self._split(pictures, "verification", 0, "raise")
        if isinstance(verification, StreamSplit):
            # The first evaluation would find an unreadable picture too, but after an epoch that nothing has saved yet.
            check_all(verification.load_example, len(pictures), f"verification of {self.path}")
        return Images(shown, PairedSplit(verification, pairs), train.names, facts=facts)

    def _split(self, source: Source, name: str, num_workers: int, on_bad_example: str) -> Split:
        title = f"{name} of {self.path}"
        warn_of_other_sizes(source, self.image_size, title)
        load = LoadExample(source, self.image_size, self.channels, self.image_size)
        if self.in_memory:
            return decode_all(load, len(source), title, on_bad_example)
        return StreamSplit(len(source), load, num_workers, on_bad_example, random=False)

    def augment(self, images: jax.Array, key: jax.Array) -> jax.Array:
        return super().augment(images, key) if self.flip else self.normalize(images)


def warn_of_other_sizes(source: Source, image_size: int, title: str) -> None:
    """Warns once if pictures are not image_size x image_size, as faces that were not aligned would be.

    It looks at the headers of 500 pictures, evenly spread, before any process loads: so there is one warning for a
    split, however many processes and epochs there are. Unreadable pictures are left for loading to report.
    """
    probed = np.unique(np.linspace(0, len(source) - 1, min(len(source), _PROBED)).round().astype(int))
    others = []
    for index in probed.tolist():
        try:
            data, _, where = source.read(index)
            with PIL.Image.open(io.BytesIO(data)) as picture:
                width, height = picture.size
        except Exception:  # damaged bytes make a decoder fail in any way
            continue
        if (width, height) != (image_size, image_size):
            others.append(f"{where} is {width}x{height}")
    if others:
        warnings.warn(
            f"{title}: {len(others)} of {len(probed)} pictures looked at are not {image_size}x{image_size} and are "
            f"resized: {others[0]}",
            stacklevel=2,
        )
