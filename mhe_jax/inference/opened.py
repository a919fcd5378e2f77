"""A finished run, opened for use: its model on a mesh with the weights of its best checkpoint."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.data import build_data
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.settings import Settings
from mhe_jax.train import experiment
from mhe_jax.train.parallel.mesh import make_mesh, replicate, whole


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run that is ready to be applied, inside its mesh."""

    settings: Settings
    data: ImageData | TextData
    classes: experiment.Classes
    mesh: Mesh
    task: experiment.Task
    weights: dict

    def compiled(self, apply: Callable[[dict, Any], Any]) -> Callable[[Any], Any]:
        """`inputs -> apply(weights, inputs)`, compiled; every process gets the whole result."""
        run = jax.jit(apply, out_shardings=whole(self.mesh))
        return lambda inputs: run(self.weights, inputs)

    def padded(self, inputs: Any, size: int) -> Any:
        """Host arrays on every device, filled up to `size` rows, rounded up to a multiple of the mesh: one shape for
        all batches, that a sharded head can cut."""
        size = -(-size // self.mesh.size) * self.mesh.size
        fill = lambda rows: np.pad(rows, [(0, size - len(rows)), *[(0, 0)] * (rows.ndim - 1)], mode="edge")
        return replicate(self.mesh, jax.tree.map(fill, inputs))


@contextlib.contextmanager
def opened(config: ConfigDict, workdir: pathlib.Path, load: bool = False) -> Iterator[tuple[Trained, Any]]:
    """The trained model of a run, and with `load` its data.

    Raises:
      ValueError: if the folder is not a run's or holds no weights, or the data is not what it was trained on.
    """
    settings = Settings.from_config(config)
    _, classes = experiment.read_workdir(workdir)
    mesh = make_mesh(settings.mesh)
    data = build_data(settings.data)
    splits = data.load() if load else None
    if splits is not None:
        experiment.check_classes(workdir, experiment.Classes(data.num_classes, splits.class_names))
    task = experiment.build_task(settings, settings.head, data, classes.number)
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        weights, _ = experiment.trained_weights(settings, task, mesh, workdir)
        yield Trained(settings, data, classes, mesh, task, weights), splits
