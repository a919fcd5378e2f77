"""Vectors of the classes of a trained run: the means of its features over the training examples."""

import pathlib

import jax

from mhe_jax.codes.vectors import ClassMeans
from mhe_jax.inference.opened import opened
from mhe_jax.labels import LabelSpace
from mhe_jax.train.class_means import class_means
from mhe_jax.train.experiment import usable_config


def run_vectors(workdir: pathlib.Path) -> tuple[ClassMeans, LabelSpace]:
    """The class means of a run, by id, and the digits of its head; its data must be where it was.

    Raises:
      ValueError: if the folder is not a run's, holds no weights, or the data is not what it was trained on.
    """
    trained = opened(usable_config(workdir), workdir)
    train, settings = trained.load_splits().train, trained.settings
    with jax.set_mesh(trained.mesh), jax.default_matmul_precision(settings.matmul_precision):
        means = class_means(
            trained.task, trained.weights, train, settings.global_batch_size, trained.mesh, trained.classes.number
        )
    return means, trained.task.head.label_space
