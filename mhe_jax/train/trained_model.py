"""The model that a run has trained: its classes, their codes, and the weights of its best checkpoint."""

import pathlib
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from mhe_jax.data.build import Data
from mhe_jax.heads import growth
from mhe_jax.labels import LabelCodes
from mhe_jax.settings import Settings
from mhe_jax.train import experiment, label_codes
from mhe_jax.train.classes import Classes
from mhe_jax.train.parallel.mesh import put
from mhe_jax.train.weights import abstract_weights


class Model(NamedTuple):
    """A trained task, which speaks of classes by `codes`; `step` is that of the checkpoint, None for a file's."""

    classes: Classes
    codes: LabelCodes
    task: Any
    weights: dict
    step: int | None


def trained_model(settings: Settings, data: Data, mesh: Mesh, workdir: pathlib.Path) -> Model:
    """The model of the run in `workdir`, as it predicts; the mesh is the ambient one while weights are read.

    An extended run that has not trained yet predicts with the tables that it had before, so that what it says of the
    classes that it knows is the same to the bit: no program has another shape.

    Raises:
      ValueError: if the folder is not a run's or holds no weights.
    """
    config, classes = experiment.read_workdir(workdir)
    codes = label_codes.stored(workdir, classes.number)

    def task_of(classes: Classes, codes: LabelCodes) -> experiment.Task:
        space = classes.space(config.head, codes)
        return experiment.build_task(settings, settings.head, data, classes.number, space=space)

    task = task_of(classes, codes)
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        weights, step = experiment.trained_weights(settings, task, mesh, workdir, codes)
        if classes.begun is None or step != 0:
            return Model(classes, codes, task, weights, step)
        before, codes_before = classes.before(codes)
        smaller = task_of(before, codes_before)
        return Model(before, codes_before, smaller, _before_training(weights, task, smaller, mesh), step)


def _before_training(weights: dict, task: Any, smaller: Any, mesh: Mesh) -> dict:
    """The weights of an extended run without its new groups, on the mesh."""
    abstract = abstract_weights(smaller, mesh)["params"]["head"]
    head = growth.resized(jax.device_get(weights["params"]["head"]), task.head, smaller.head, abstract)
    return {**weights, "params": {**weights["params"], "head": jax.tree.map(put, head, abstract)}}
