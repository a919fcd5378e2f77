"""What is exported of a run: from inputs as people have them to classes and their probabilities, as one function."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import export
from ml_collections import ConfigDict

from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.embedded import EmbeddedWords
from mhe_jax.export.inputs import BATCH, LENGTH, Inputs, inputs_of
from mhe_jax.export.tables import quantised, widened
from mhe_jax.inference.opened import Trained, kept, opened
from mhe_jax.ops.storage import Scaled

# Among the weights of a program: those of the encoder that made features of texts.
ENCODER = "encoder"

Arrays = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Program:
    """A run's answers as a function of its weights and inputs, on one device and outside any mesh.

    Attributes:
      apply: `apply(weights, inputs)` -> outputs, all by name: `ids` int32 [B, k], -1 where the head's beam finds fewer,
        and `scores` float32 [B, k], probabilities; or of a run on faces `embeddings` float32 [B, D], of length 1.
      weights: {'params', 'batch_stats'}, NumPy arrays on the host.
      inputs: shape and dtype of each, where a name in the place of a size stands for any: `BATCH`, `LENGTH`, `WORDS`.
      longest: the largest of each such size but the batch; encoders with learnt distances, MPNet, take that alone.
      precision: of products, as `jax.default_matmul_precision` has it.
      reading: what becomes of a text before its tokenizer sees it, fields of `mhe_jax.data.texts.dataset.TextData`.
    """

    apply: Callable[[Any, Arrays], Arrays]
    weights: Any
    inputs: Inputs
    longest: Mapping[str, int]
    precision: str
    reading: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def abstract_inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The inputs with symbolic sizes, see `jax.export.symbolic_shape`."""
        used = {size for sizes, _ in self.inputs.values() for size in sizes}
        scope = export.SymbolicScope([f"{size} <= {most}" for size, most in self.longest.items() if size in used])

        def shape_of(sizes: tuple[int | str, ...]) -> tuple:
            return tuple(export.symbolic_shape(", ".join(map(str, sizes)), scope=scope))

        return {name: jax.ShapeDtypeStruct(shape_of(sizes), dtype) for name, (sizes, dtype) in self.inputs.items()}

    def zeros(self, batch: int, share: int = 1) -> dict[str, np.ndarray]:
        """Inputs of zeros, whose lengths are the longest divided by `share`."""
        known = {BATCH: batch, **{size: max(1, most // share) for size, most in self.longest.items()}}
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
    data, precision = trained.data, trained.settings.matmul_precision
    task, weights = _on_host(trained, float32)
    if float32:
        precision = "highest"
    faces = isinstance(data, FaceData)
    if table_dtype:
        if faces:
            raise ValueError(f"--table_dtype={table_dtype}: a run on faces gives embeddings, and its table is left out")
        task, weights = quantised(task, weights, table_dtype)
    if not faces and not 1 <= top_k <= trained.num_live:
        raise ValueError(f"--top_k={top_k}: it must be between 1 and the {trained.num_live} classes")
    apply = functools.partial(_embed, task) if faces else functools.partial(_predict, task, trained.codes, top_k)
    texts, network = data, task.backbone
    if isinstance(data, EmbeddedWords) and (encoder := kept(trained)):
        embedder, weights_of_it = _on_host(encoder, float32)
        texts, network = encoder.data, embedder.backbone
        apply, weights = functools.partial(_encode, embedder, apply), {**weights, ENCODER: weights_of_it}
    inputs, longest = inputs_of(data, texts)
    if getattr(getattr(network, "network", network), "relative_positions", False):  # a table of them, for one length
        inputs["input_ids"] = (BATCH, longest[LENGTH]), np.int32
    reading = {"prefix": texts.prefix, "text_rule": texts.text_rule} if isinstance(texts, TextData) else {}
    return Program(apply, weights, inputs, longest, precision, reading)


def _on_host(trained: Trained, float32: bool) -> tuple[Any, Any]:
    """A task and its weights; with `float32` all of it is computed in that, with wide tables."""
    task, weights = trained.task, jax.device_get(trained.weights)
    if not float32:
        return task, weights
    weights = jax.tree.map(widened, weights, is_leaf=lambda leaf: isinstance(leaf, Scaled))
    head = task.head.clone(dtype=jnp.float32, storage="float32")
    return dataclasses.replace(task, head=head, backbone=_wide(task.backbone), head_precision=None), weights


def _wide(network: nn.Module) -> nn.Module:
    """A network that computes in float32, with all that it is made of."""
    parts = {name: getattr(network, name) for name in network.__dataclass_fields__ if name not in ("parent", "name")}
    changes: dict[str, Any] = {name: _wide(part) for name, part in parts.items() if isinstance(part, nn.Module)}
    if "dtype" in parts:
        changes["dtype"] = jnp.float32
    return network.clone(**changes)


def _predict(task: Any, codes: Any, k: int, weights: Any, inputs: Arrays) -> Arrays:
    scores, found = task.predict(weights, task.asked(inputs), k)
    if codes.id_of_code is not None:
        ids = jnp.asarray(codes.id_of_code)
        found = jnp.where(found < 0, -1, ids[jnp.maximum(found, 0)])
    return {"ids": found, "scores": jnp.exp(scores)}


def _encode(embedder: Any, predict: Callable[[Any, Arrays], Arrays], weights: Any, inputs: Arrays) -> Arrays:
    """What `predict` makes of the features of texts, and of what else there is of them."""
    features = embedder.embed(weights[ENCODER], embedder.asked(inputs))
    return predict({name: part for name, part in weights.items() if name != ENCODER}, {"features": features, **inputs})


def _embed(task: Any, weights: Any, inputs: Arrays) -> Arrays:
    embeddings = task.embed(weights, inputs["image"])
    length = jnp.linalg.norm(embeddings, axis=1, keepdims=True)
    return {"embeddings": jnp.where(length > 0, embeddings / jnp.where(length > 0, length, 1), 0)}
