"""A finished run, opened for use: its model on a mesh with the weights of its best checkpoint."""

import collections
import contextlib
import dataclasses
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from mhe_jax.data.build import Data, build_data
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.embedded import EmbeddedWords
from mhe_jax.labels import LabelCodes
from mhe_jax.settings import Settings
from mhe_jax.train import data_digest, experiment, kept_encoder, left_to_data
from mhe_jax.train.numbered import numbered, numbering_of
from mhe_jax.train.parallel.mesh import BATCH, make_mesh, put, whole
from mhe_jax.train.trained_model import trained_model

# A batch is filled up to one of these, rounded up to a multiple of the mesh: few shapes to compile, and never more than
# four times the work.
SIZES = (1, 4, 16, 32, 64)
BATCH_SIZE = SIZES[-1]

# Programs over the same devices must be started in the same order on each of them, whichever threads start them.
_STARTING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run that is ready to be applied, from any thread and whatever mesh is ambient there.

    Its task speaks of classes by `codes`; `codes.ids` makes ids of what it predicts. `step` is that of the checkpoint
    that the weights are from, None for those of a file.
    """

    workdir: pathlib.Path
    settings: Settings
    data: Data
    classes: experiment.Classes
    codes: LabelCodes
    mesh: Mesh
    task: experiment.Task
    weights: dict
    step: int | None = None

    @property
    def num_live(self) -> int:
        """How many classes it can predict: without those that are retired, or new and not trained."""
        return self.task.head.label_space.num_live

    def load_splits(self) -> Any:
        """The run's data, with ids as labels; raises ValueError if it is not what the run was trained on."""
        return self.load_numbered()[0]

    def load_numbered(self) -> tuple[Any, LabelCodes]:
        """`load_splits`, and which class of the data has which id."""
        splits, number = self.data.load(), self.data.num_classes
        data_digest.same_everywhere(splits, number, self.settings.peer_seconds)
        numbering = LabelCodes.identity(number)
        if self.classes.is_kept:
            numbering = numbering_of(self.workdir, self.classes, splits.class_names, number)
        return numbered(self.workdir, self.classes, self.data, splits), numbering

    def compiled(self, apply: Callable, static: tuple[str, ...] = ()) -> Callable:
        """`inputs -> apply(weights, inputs)`, compiled for each shape and each value of the arguments named in
        `static`; every process gets the whole result."""
        run = jax.jit(apply, static_argnames=static, out_shardings=whole(self.mesh))

        def call(inputs: Any, **options: Any) -> Any:
            with _STARTING, _ambient(self.mesh, self.settings):
                return run(self.weights, inputs, **options)

        return call

    def results(
        self, program: Callable[[Any], Any], batches: Iterable[tuple[Any, Any]], ahead: int = 1
    ) -> Iterator[tuple[Any, Any]]:
        """`(tag, program(inputs))` of each `(tag, inputs)`, on the host.

        Args:
          program: what `compiled` returned.
          batches: host arrays of at most `BATCH_SIZE` rows, each with anything that says whose they are.
          ahead: how many batches are made ready while one is on the device; with 0 each has its result before the next
            is asked for, which may be long in coming.
        """
        running: collections.deque = collections.deque()

        def finished() -> tuple[Any, Any]:
            tag, rows, result = running.popleft()
            return tag, jax.tree.map(lambda part: part[:rows], jax.device_get(result))

        for tag, inputs in batches:
            running.append((tag, len(jax.tree.leaves(inputs)[0]), program(self._padded(inputs))))
            if len(running) > ahead:
                yield finished()
        while running:
            yield finished()

    def _padded(self, inputs: Any) -> Any:
        """Host arrays split over the devices, filled up with copies of their last rows."""
        rows = len(jax.tree.leaves(inputs)[0])
        size = next(size for size in SIZES if size >= rows)
        size = -(-size // self.mesh.size) * self.mesh.size
        layout = NamedSharding(self.mesh, BATCH)

        def fill(part: np.ndarray) -> jax.Array:
            filled = np.pad(part, [(0, size - rows), *[(0, 0)] * (part.ndim - 1)], mode="edge")
            return put(filled, jax.ShapeDtypeStruct(filled.shape, filled.dtype, sharding=layout))

        return jax.tree.map(fill, inputs)


def opened(config: ConfigDict, workdir: pathlib.Path) -> Trained:
    """The trained model of a run.

    Raises:
      ValueError: if the folder is not a run's or holds no weights.
    """
    settings = Settings.from_config(left_to_data.as_trained(config, workdir))
    mesh = make_mesh(settings.mesh)
    data = build_data(settings.data)
    model = trained_model(settings, data, mesh, workdir)
    trained = Trained(workdir, settings, data, model.classes, model.codes, mesh, model.task, model.weights, model.step)
    if isinstance(data, EmbeddedWords) and (encoder := kept(trained)):
        data.embed = _embedding(encoder)
    return trained


def kept(trained: Trained) -> Trained | None:
    """The encoder that made the features of texts that a run was trained on; None if none is kept beside it."""
    folder = trained.workdir / kept_encoder.FOLDER
    if not folder.is_dir():
        return None
    with _ambient(trained.mesh, trained.settings):
        data, task, weights = kept_encoder.load(folder, trained.mesh)
    return dataclasses.replace(trained, data=data, task=task, weights=weights)


def _embedding(encoder: Trained) -> Callable[[Sequence[str]], np.ndarray]:
    """What makes features float32 [N, D] of texts, as those that the run was trained on."""
    program, read = encoder.compiled(encoder.task.embed), cast(TextData, encoder.data).inputs_of

    def embed(texts: Sequence[str]) -> np.ndarray:
        batches = ((None, read(texts[at : at + BATCH_SIZE])) for at in range(0, len(texts), BATCH_SIZE))
        nothing = np.zeros((0, encoder.task.head.features_dim), np.float32)
        return np.concatenate([nothing, *(part for _, part in encoder.results(program, batches))])

    return embed


@contextlib.contextmanager
def _ambient(mesh: Mesh, settings: Settings) -> Iterator[None]:
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        yield
