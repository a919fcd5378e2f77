"""What is exported of a run: from inputs as people have them to classes and their probabilities, as one function."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from ml_collections import ConfigDict

from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.embedded import EmbeddedWords
from mhe_jax.data.texts.sparse.tokens_and_words import TokensAndWords
from mhe_jax.export.tables import quantised, widened
from mhe_jax.inference.opened import Trained, opened
from mhe_jax.ops.storage import Scaled

# What the dimensions of inputs and outputs are called, in the files too.
BATCH, LENGTH = "batch", "length"

Arrays = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Program:
    """A run's answers as a function of its weights and inputs, on one device and outside any mesh.

    Attributes:
      apply: `apply(weights, inputs)` -> outputs, all by name: `ids` int32 [B, k], -1 where the head's beam finds fewer,
        and `scores` float32 [B, k], probabilities; or of a run on faces `embeddings` float32 [B, D], of length 1.
      weights: {'params', 'batch_stats'}, NumPy arrays on the host.
      inputs: shape and dtype of each, where a name in the place of a size stands for any: `BATCH`, `LENGTH`.
      longest: the largest `LENGTH`, 0 where no input has one; encoders with learnt distances, MPNet, take that alone.
      precision: of products, as `jax.default_matmul_precision` has it.
      reading: what becomes of a text before its tokenizer sees it, fields of `mhe_jax.data.texts.dataset.TextData`.
    """

    apply: Callable[[Any, Arrays], Arrays]
    weights: Any
    inputs: Mapping[str, tuple[tuple[int | str, ...], Any]]
    longest: int
    precision: str
    reading: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def abstract_inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The inputs with symbolic sizes, see `jax.export.symbolic_shape`."""
        scope = export.SymbolicScope([f"{LENGTH} <= {self.longest}"] if self.longest else [])

        def shape_of(sizes: tuple[int | str, ...]) -> tuple:
            return tuple(export.symbolic_shape(", ".join(map(str, sizes)), scope=scope))

        return {name: jax.ShapeDtypeStruct(shape_of(sizes), dtype) for name, (sizes, dtype) in self.inputs.items()}

    def zeros(self, batch: int, length: int = 0) -> dict[str, np.ndarray]:
        """Inputs of zeros, where `LENGTH` is any of `length`; 0: of the longest."""
        known = {BATCH: batch, LENGTH: length or self.longest}
        return {
            name: np.zeros([known[size] if isinstance(size, str) else size for size in sizes], dtype)
            for name, (sizes, dtype) in self.inputs.items()
        }

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What JAX answers here."""
        with jax.default_matmul_precision(self.precision):
            return jax.device_get(jax.jit(self.apply)(self.weights, dict(inputs)))


def open_run(config: ConfigDict, workdir: pathlib.Path) -> Trained:
    """The run with whole tables on every device, as files have them.

    Raises:
      ValueError: if the folder is not a run's or holds no weights.
    """
    config = config.copy_and_resolve_references()
    config.mesh.update(data=-1, classes=1)
    return opened(config, workdir)


def program_of(trained: Trained, top_k: int, float32: bool = False, table_dtype: str = "") -> Program:
    """The program of a run.

    Args:
      trained: of `open_run`.
      top_k: classes per example; of a run on faces it means nothing.
      float32: whether narrow weights are widened and all products are full float32, for programs whose readers have no
        narrow floats; without it they are as in the run.
      table_dtype: of the classifier's table, see `mhe_jax.export.tables`; empty: as it is.

    Raises:
      ValueError: for more classes than there are, or a head whose table cannot be had in `table_dtype`.
    """
    task, weights = trained.task, jax.device_get(trained.weights)
    precision = trained.settings.matmul_precision
    if float32:
        weights = jax.tree.map(widened, weights, is_leaf=lambda leaf: isinstance(leaf, Scaled))
        head = task.head.clone(dtype=jnp.float32, storage="float32")
        backbone = task.backbone.clone(dtype=jnp.float32) if hasattr(task.backbone, "dtype") else task.backbone
        task, precision = dataclasses.replace(task, head=head, backbone=backbone, head_precision=None), "highest"
    if table_dtype:
        if isinstance(trained.data, FaceData):
            raise ValueError(f"--table_dtype={table_dtype}: a run on faces gives embeddings, and its table is left out")
        task, weights = quantised(task, weights, table_dtype)
    faces = isinstance(trained.data, FaceData)
    if not faces and not 1 <= top_k <= trained.num_live:
        raise ValueError(f"--top_k={top_k}: it must be between 1 and the {trained.num_live} classes")
    apply = functools.partial(_embed, task) if faces else functools.partial(_predict, task, trained.codes, top_k)
    inputs, longest = inputs_of(trained.data)
    if getattr(task.backbone, "relative_positions", False):  # a table of distances, made for one length
        inputs["input_ids"] = (BATCH, longest), np.int32
    data = trained.data
    reading = {"prefix": data.prefix, "text_rule": data.text_rule} if isinstance(data, TextData) else {}
    return Program(apply, weights, inputs, longest, precision, reading)


def inputs_of(data: Any) -> tuple[dict[str, tuple[tuple[int | str, ...], Any]], int]:
    """The inputs of a run's program by name, and the largest of their lengths, see `Program`.

    Raises:
      ValueError: for words beside an encoder.
    """
    if isinstance(data, TokensAndWords | EmbeddedWords):
        raise ValueError("words beside an encoder have no program yet: --format=safetensors has them")
    if isinstance(data, ImageData):
        return {"image": ((BATCH, *data.image_shape), np.uint8)}, 0
    if isinstance(data, FeatureData):
        return {"features": ((BATCH, data.features_dim), np.float32)}, 0
    if isinstance(data, TextData):
        return {"input_ids": ((BATCH, LENGTH), np.int32), "length": ((BATCH,), np.int32)}, data.max_length
    wide = BATCH, LENGTH
    return {"feature_ids": (wide, np.int32), "feature_values": (wide, np.float32)}, data.max_row_features


def _predict(task: Any, codes: Any, k: int, weights: Any, inputs: Arrays) -> Arrays:
    scores, found = task.predict(weights, task.asked(inputs), k)
    if codes.id_of_code is not None:
        ids = jnp.asarray(codes.id_of_code)
        found = jnp.where(found < 0, -1, ids[jnp.maximum(found, 0)])
    return {"ids": found, "scores": jnp.exp(scores)}


def _embed(task: Any, weights: Any, inputs: Arrays) -> Arrays:
    embeddings = task.embed(weights, inputs["image"])
    length = jnp.linalg.norm(embeddings, axis=1, keepdims=True)
    return {"embeddings": jnp.where(length > 0, embeddings / jnp.where(length > 0, length, 1), 0)}
