"""What a run is asked about: inputs of its kind, checked and cut into batches."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
import scipy.sparse

from mhe_jax.data.features.arrays import DTYPES
from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.embedded import EmbeddedWords
from mhe_jax.data.texts.sparse.rows import canonical_features
from mhe_jax.data.texts.sparse.word_fields import WordFields
from mhe_jax.data.texts.sparse.words import WordData
from mhe_jax.inference.inputs import read_ahead
from mhe_jax.inference.opened import BATCH_SIZE, Trained

# What a run is asked about: the types of an input, and what to say of others.
_TAKES: dict[str, tuple[Any, str]] = {
    "texts": (str, "is a run on texts and takes strings"),
    "pictures": ((str, os.PathLike), "is a run on pictures and takes paths of files, or a uint8 array"),
    "features": ((), "is a run on features and takes a float array"),
    "sparse": ((), "is a run on sparse features and takes a matrix of scipy.sparse"),
}


# Places of some inputs, int [B], and the arrays that the task takes for them.
Batches = Iterator[tuple[np.ndarray, Any]]


def kind_of(data: Any) -> str:
    """What a run on some data is asked about: 'texts', 'pictures', 'features' or 'sparse' features."""
    for kind, of in (
        ("pictures", ImageData),
        ("features", FeatureData),
        ("texts", WordData),
        ("sparse", SparseData),
    ):
        if isinstance(data, of):
            return kind
    return "texts"


def shape_of(data: Any) -> tuple[int, ...]:
    """Of one input: (H, W, C) of pictures, (D,) of features, (V,) of sparse features; () of texts."""
    kind = kind_of(data)
    return data.image_shape if kind == "pictures" else () if kind == "texts" else (data.features_dim,)


def checked(trained: Trained, inputs: Any) -> Any:
    """One element an input; raises ValueError unless they are what the run takes."""
    data, kind = trained.data, kind_of(trained.data)
    types, takes = _TAKES[kind]
    if scipy.sparse.issparse(inputs) and isinstance(data, SparseData) and kind == "sparse":
        matrix = canonical_features(inputs, "the matrix")
        if matrix.shape[1] != data.features_dim:
            raise ValueError(
                f"{trained.workdir} takes sparse features [N, {data.features_dim}], not {list(matrix.shape)}"
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
                f"{trained.workdir} takes float features [N, {data.features_dim}], not {rows.dtype} {list(rows.shape)}"
            )
        return rows if rows.dtype in DTYPES else rows.astype(np.float32)
    if isinstance(inputs, np.ndarray | jax.Array) and isinstance(data, ImageData):
        images, expected = np.asarray(inputs), data.image_shape
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise ValueError(
                f"{trained.workdir} takes uint8 pictures [N, {', '.join(map(str, expected))}], not "
                f"{images.dtype} {list(images.shape)}"
            )
        return images
    several = isinstance(inputs, Iterable) and not isinstance(inputs, str | os.PathLike)
    asked = list(inputs) if several else [inputs]
    for one in asked:
        if not isinstance(one, types):
            raise ValueError(f"{trained.workdir} {takes}, not {type(one).__name__}")
    return asked


def batches(trained: Trained, asked: Any) -> Batches:
    """Inputs in batches, texts of about one length together, so that little is padded."""
    data: Any = trained.data
    if isinstance(data, TextData | WordData):
        for places in cut(np.argsort([len(text) for text in asked], kind="stable")):
            yield places, data.inputs_of([asked[place] for place in places])
    elif isinstance(data, SparseData):
        for places in cut(np.arange(asked.shape[0])):
            yield places, data.padded(asked[places])
    elif isinstance(data, FeatureData):
        for places in cut(np.arange(len(asked))):
            yield places, trained.task.asked({data.input_name: asked[places]})
    elif isinstance(asked, np.ndarray):
        for places in cut(np.arange(len(asked))):
            yield places, asked[places]
    else:
        read = lambda place: data.read_image(asked[place])
        for some, images in read_ahead(read, range(len(asked)), BATCH_SIZE):
            yield np.array(some), images


def blank(trained: Trained, size: int) -> Iterator[Any]:
    """Batches of `size` inputs that say nothing, one of each shape that is known in advance."""
    data: Any = trained.data
    if isinstance(data, TextData) and not isinstance(data, WordFields):
        data.encode([""])  # the tokenizer has its own first time
        for width in data.buckets:
            yield {"input_ids": np.zeros((size, width), np.int32), "length": np.ones(size, np.int32)}
    elif isinstance(data, SparseData) and not isinstance(data, EmbeddedWords):
        for width in data.buckets:
            shape = size, width
            yield {"feature_ids": np.zeros(shape, np.int32), "feature_values": np.zeros(shape, np.float32)}
    else:
        nothing = {
            "pictures": lambda: np.zeros((size, *shape_of(data)), np.uint8),
            "features": lambda: np.zeros((size, *shape_of(data)), np.float32),
            "texts": lambda: [""] * size,
        }
        for _, inputs in batches(trained, nothing[kind_of(data)]()):
            yield inputs


def count(asked: Any) -> int:
    """How many inputs there are."""
    return asked.shape[0] if scipy.sparse.issparse(asked) else len(asked)


def cut(places: np.ndarray) -> Iterator[np.ndarray]:
    """Places cut into batches."""
    for start in range(0, len(places), BATCH_SIZE):
        yield places[start : start + BATCH_SIZE]
