"""Codes by the features of the run's own network: the classes' means over the training examples, in clusters.

The network is as the run begins, where that is not at random, or as a warm-up left it.
"""

import dataclasses
import pathlib
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.codes.clustering import clustered
from mhe_jax.codes.sources import Source, WarmUp
from mhe_jax.labels import LabelCodes, LabelSpace
from mhe_jax.settings import Settings
from mhe_jax.train import backbone, experiment, warm_up
from mhe_jax.train.class_means import class_means
from mhe_jax.train.parallel.mesh import put
from mhe_jax.train.weights import abstract_weights, unboxed


def find(
    source: Source, config: ConfigDict, workdir: pathlib.Path, data: Any, train: Any, mesh: Mesh, space: LabelSpace
) -> LabelCodes:
    """The codes of a run, by one pass over its training split.

    After a warm-up the weights are those of its best checkpoint.

    Args:
      source: of `config.codes`, one of `OwnFeatures`.
      config: of the run, as is `workdir`.
      data: the data set, loaded.
      train: its training split, with ids as labels.
      mesh: of the run.
      space: the classes and their digits in the run.

    Raises:
      ValueError: if the backbone would begin at random, or its weights are missing or damaged.
    """
    warmed_up = isinstance(source, WarmUp)
    if not warmed_up and not (backbone.has_weights(config) or backbone.is_identity(config.backbone)):
        raise ValueError(
            f"config.codes.name is 'pretrained', but the backbone {config.backbone.name!r} begins at random: take "
            "'warmup', or a pretrained backbone, or one from config.init_from"
        )
    settings = Settings.from_config(warm_up.config_of(config) if warmed_up else config)
    head = settings.head if warmed_up else ConfigDict({"name": "ohe"})
    task = experiment.build_task(settings, head, data, space.num_classes if warmed_up else 1)
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        if warmed_up:
            weights, _ = experiment.trained_weights(settings, task, mesh, workdir / warm_up.FOLDER)
        else:
            weights = first_weights(settings, task, mesh)
        means = class_means(task, weights, train, settings.global_batch_size, mesh, space.num_classes)
    return clustered(means.vectors, space, settings.seed, means.present)


def first_weights(settings: Settings, task: Any, mesh: Mesh) -> dict:
    """{'params': {'backbone'}, 'batch_stats'} as training starts from them, on the mesh; without a head.

    Args:
      settings: of a config whose backbone has weights, or is the identity.
      task: a backbone and any head.
      mesh: the ambient one.
    """
    abstract = abstract_weights(task, mesh)
    if backbone.has_weights(settings):
        if settings.init_from:
            settings = dataclasses.replace(settings, init_parts=("backbone",))
        found = experiment.initial_weights(settings, abstract, task.head.label_space)
    else:  # a normalisation of the data's features
        shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
        params, batch_stats = jax.jit(
            lambda: unboxed(task.init(jax.random.key(0))), out_shardings=(shardings["params"], shardings["batch_stats"])
        )()
        found = {"params": params, "batch_stats": batch_stats}
    on_mesh = lambda arrays, shapes: jax.tree.map(put, arrays, shapes)
    return {
        "params": {"backbone": on_mesh(found["params"]["backbone"], abstract["params"]["backbone"])},
        "batch_stats": on_mesh(found["batch_stats"], abstract["batch_stats"]),
    }
