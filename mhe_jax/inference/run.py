"""A trained run in Python: classes and embeddings of inputs, from a model that stays on the devices."""

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.data.features.arrays import DTYPES
from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.embedded import EmbeddedWords
from mhe_jax.data.texts.sparse.rows import canonical_features
from mhe_jax.data.texts.sparse.word_fields import WordFields
from mhe_jax.data.texts.sparse.words import WordData
from mhe_jax.inference import hub
from mhe_jax.inference.embeddings import unit_length
from mhe_jax.inference.inputs import read_ahead
from mhe_jax.inference.opened import BATCH_SIZE, SIZES, Trained, opened
from mhe_jax.labels import LabelCodes, LabelSpace
from mhe_jax.train import compilation_cache, experiment

# A text, or pictures by the paths of their files.
Input = str | os.PathLike
# What a run is asked about: the types of an input, and what to say of others.
_TAKES: dict[str, tuple[Any, str]] = {
    "texts": (str, "is a run on texts and takes strings"),
    "pictures": ((str, os.PathLike), "is a run on pictures and takes paths of files, or a uint8 array"),
    "features": ((), "is a run on features and takes a float array"),
    "sparse": ((), "is a run on sparse features and takes a matrix of scipy.sparse"),
}

# Places of some inputs, int [B], and the arrays that the task takes for them.
Batches = Iterator[tuple[np.ndarray, Any]]


class Prediction(NamedTuple):
    """A class that a run finds in an input: its name, its probability in 0 .. 1, and its number."""

    label: str
    score: float
    id: int


def load(workdir: str | os.PathLike) -> "Run":
    """A trained run, with the weights of its best checkpoint on all devices that are here.

    The folder alone is enough, the data set need not be present. Compiled programs are kept for the next start, as the
    command line keeps them, unless JAX was told where, or not to: see `mhe_jax.train.compilation_cache`.

        run = mhe_jax.load("runs/mine")
        for best, *others in run.predict(["a.jpg", "b.jpg"]):
            print(best.label, best.score)

    Args:
      workdir: what `mhe train --workdir` wrote, or `mhe push`; or `hub:OWNER/NAME`, of the Hugging Face hub.

    Raises:
      ValueError: if the folder is not a run's, or holds no weights; if the hub has none, or cannot be reached.
    """
    workdir = hub.located(workdir)
    compilation_cache.enable()
    config = experiment.usable_config(workdir)
    return Run(config, opened(config, workdir))


class Run:
    """A trained run that answers; `load` makes it.

    The first call compiles a program for the shape of its batches, which later calls of any size reuse: there are five
    batch sizes, and for texts the bucket lengths of the run. Inputs are read and decoded by threads while the device
    computes. Calls may come from several threads, and from inside any mesh.

    Attributes:
      config: the run's config, with the mesh of the devices that are here.
    """

    def __init__(self, config: ConfigDict, trained: Trained):
        self.config = config
        self._trained = trained
        self._predict = trained.compiled(trained.task.predict, static=("k",))
        self._embed = trained.compiled(trained.task.embed)

    @property
    def kind(self) -> str:
        """What it is asked about: 'texts', 'pictures', 'features' or 'sparse' features."""
        data = self._trained.data
        for kind, of in (
            ("pictures", ImageData),
            ("features", FeatureData),
            ("texts", WordData),
            ("sparse", SparseData),
        ):
            if isinstance(data, of):
                return kind
        return "texts"

    @property
    def verifies(self) -> bool:
        """Whether it is a run on faces, whose embeddings are compared and whose classes only trained it."""
        return isinstance(self._trained.data, FaceData)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input: (H, W, C) of pictures, (D,) of features, (V,) of sparse features; () of texts."""
        data: Any = self._trained.data
        kind = self.kind
        return data.image_shape if kind == "pictures" else () if kind == "texts" else (data.features_dim,)

    @property
    def features_dim(self) -> int:
        """Width D of what `embed` returns."""
        return self._trained.task.head.features_dim

    @property
    def step(self) -> int | None:
        """Of the checkpoint that the weights are from; None for those of a file."""
        return self._trained.step

    @property
    def label_space(self) -> LabelSpace:
        """The classes and their digits, which are those of their `codes`."""
        return self._trained.task.head.label_space

    @property
    def codes(self) -> LabelCodes:
        """Which class has which code."""
        return self._trained.codes

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by their ids; numbers where the data set has no names. Retired ones keep theirs."""
        return self._trained.classes.all_names

    @functools.cached_property
    def class_states(self) -> tuple[str, ...]:
        """What each class is: 'trained', 'untrained' since the run was extended, or 'retired'."""
        return tuple(self._trained.classes.states(self.codes).tolist())

    @property
    def num_live(self) -> int:
        """How many classes can be predicted: those that are trained."""
        return self._trained.num_live

    def predict(self, inputs: Input | Sequence[Input] | np.ndarray, top_k: int = 5) -> list[list[Prediction]]:
        """The `top_k` best classes of each input, best first; fewer where the head's beam finds fewer.

        Args:
          inputs: of a run on texts a text or a list of texts; of one on pictures a path, a list of paths, or uint8
            pictures [N, H, W, C] of the size that the run was trained on; of one on features float [N, D], of one on
            sparse features a matrix of scipy.sparse [N, V].
          top_k: each number is compiled anew.

        Raises:
          ValueError: for inputs of another kind, a picture that cannot be read, more classes than there are, and for a
            run on faces, whose classes only trained it.
        """
        trained = self._trained
        if isinstance(trained.data, FaceData):
            raise ValueError(f"{trained.workdir} is a run on faces, whose classes only trained it: use embed")
        if not 1 <= top_k <= trained.num_live:
            raise ValueError(f"top_k is {top_k}; it must be between 1 and the {trained.num_live} classes")
        asked = self._checked(inputs)
        found: list[list[Prediction]] = [[] for _ in range(_count(asked))]
        program = functools.partial(self._predict, k=top_k)
        for places, (scores, ids) in trained.results(program, self._batches(asked)):
            rows = zip(places, np.exp(scores).tolist(), trained.codes.ids(ids).tolist(), strict=True)
            for place, row_scores, row_ids in rows:
                ranked = zip(row_scores, row_ids, strict=True)
                found[place] = [Prediction(trained.classes.name(i), score, i) for score, i in ranked if i >= 0]
        return found

    def embed(self, inputs: Input | Sequence[Input] | np.ndarray) -> np.ndarray:
        """The features of each input as the head sees them, float32 [N, D].

        Of a run on faces they have length 1, and are what verification compares: their inner product is the cosine that
        the run's threshold is about.

        Args:
          inputs: as in `predict`; of a run on faces, pictures.

        Raises:
          ValueError: for inputs of another kind, and a picture that cannot be read.
        """
        asked = self._checked(inputs)
        features = np.zeros((_count(asked), self.features_dim), np.float32)
        for places, part in self._trained.results(self._embed, self._batches(asked)):
            features[places] = part
        return unit_length(features) if isinstance(self._trained.data, FaceData) else features

    def decode_image(self, encoded: bytes, where: str) -> np.ndarray:
        """A picture of a file's content as `predict` takes it, uint8 [H, W, C]; of a run on pictures.

        Args:
          encoded: JPEG, PNG or another of the formats that are read from files.
          where: names it in the message.

        Raises:
          BadExample: a ValueError, if it cannot be decoded.
        """
        data: Any = self._trained.data
        return data.decode_image(encoded, where)

    def warm(self, top_k: int | None = 5) -> None:
        """Compiles what calls may need, for each size of a batch and, for texts, each length of their tokens; of words
        beside an encoder the shortest of both alone.

        Args:
          top_k: of `predict`, which a run on faces has not; None leaves it out.
        """
        trained, data = self._trained, self._trained.data
        programs = [self._embed]
        if top_k is not None and not self.verifies:
            programs.append(functools.partial(self._predict, k=top_k))
        for size in SIZES:
            for inputs in self._blank(data, size):
                for program in programs:
                    list(trained.results(program, [(None, inputs)]))

    def _blank(self, data: Any, size: int) -> Iterator[Any]:
        """Batches of `size` inputs that say nothing, one of each shape that is known in advance."""
        if isinstance(data, TextData) and not isinstance(data, WordFields):
            data.encode([""])  # the tokenizer has its own first time
            for width in data.buckets:
                yield {"input_ids": np.zeros((size, width), np.int32), "length": np.ones(size, np.int32)}
        elif isinstance(data, SparseData) and not isinstance(data, EmbeddedWords):
            for width in data.buckets:
                shape = size, width
                yield {"feature_ids": np.zeros(shape, np.int32), "feature_values": np.zeros(shape, np.float32)}
        else:
            blank = {
                "pictures": lambda: np.zeros((size, *self.input_shape), np.uint8),
                "features": lambda: np.zeros((size, *self.input_shape), np.float32),
                "texts": lambda: [""] * size,
            }
            for _, inputs in self._batches(blank[self.kind]()):
                yield inputs

    def _checked(self, inputs: Any) -> Any:
        """One element an input; raises ValueError unless they are what the run takes."""
        data = self._trained.data
        types, takes = _TAKES[self.kind]
        if scipy.sparse.issparse(inputs) and isinstance(data, SparseData) and self.kind == "sparse":
            matrix = canonical_features(inputs, "the matrix")
            if matrix.shape[1] != data.features_dim:
                raise ValueError(
                    f"{self._trained.workdir} takes sparse features [N, {data.features_dim}], not {list(matrix.shape)}"
                )
            return matrix
        if isinstance(inputs, np.ndarray | jax.Array) and isinstance(data, FeatureData):
            rows = np.asarray(inputs)
            if (
                (rows.dtype.kind != "f" and rows.dtype not in DTYPES)
                or rows.ndim != 2
                or rows.shape[1] != data.features_dim
            ):
                raise ValueError(
                    f"{self._trained.workdir} takes float features [N, {data.features_dim}], not {rows.dtype} "
                    f"{list(rows.shape)}"
                )
            return rows if rows.dtype in DTYPES else rows.astype(np.float32)
        if isinstance(inputs, np.ndarray | jax.Array) and isinstance(data, ImageData):
            images, expected = np.asarray(inputs), data.image_shape
            if images.dtype != np.uint8 or images.shape[1:] != expected:
                raise ValueError(
                    f"{self._trained.workdir} takes uint8 pictures [N, {', '.join(map(str, expected))}], not "
                    f"{images.dtype} {list(images.shape)}"
                )
            return images
        several = isinstance(inputs, Iterable) and not isinstance(inputs, str | os.PathLike)
        asked = list(inputs) if several else [inputs]
        for one in asked:
            if not isinstance(one, types):
                raise ValueError(f"{self._trained.workdir} {takes}, not {type(one).__name__}")
        return asked

    def _batches(self, asked: Any) -> Batches:
        """Inputs in batches, texts of about one length together, so that little is padded."""
        data: Any = self._trained.data
        if isinstance(data, TextData | WordData):
            for places in _cut(np.argsort([len(text) for text in asked], kind="stable")):
                yield places, data.inputs_of([asked[place] for place in places])
        elif isinstance(data, SparseData):
            for places in _cut(np.arange(asked.shape[0])):
                yield places, data.padded(asked[places])
        elif isinstance(data, FeatureData):
            for places in _cut(np.arange(len(asked))):
                yield places, self._trained.task.asked({data.input_name: asked[places]})
        elif isinstance(asked, np.ndarray):
            for places in _cut(np.arange(len(asked))):
                yield places, asked[places]
        else:
            read = lambda place: data.read_image(asked[place])
            for some, images in read_ahead(read, range(len(asked)), BATCH_SIZE):
                yield np.array(some), images

    def __repr__(self) -> str:
        return f"Run({str(self._trained.workdir)!r}, {self._trained.classes.number} classes)"


def _count(asked: Any) -> int:
    return asked.shape[0] if scipy.sparse.issparse(asked) else len(asked)


def _cut(places: np.ndarray) -> Iterator[np.ndarray]:
    """Places cut into batches."""
    for start in range(0, len(places), BATCH_SIZE):
        yield places[start : start + BATCH_SIZE]
