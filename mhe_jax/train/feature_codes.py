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
from mhe_jax.interop import class_rows
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
      ValueError: if the backbone would begin at random, if the head would come from a run with codes of its own, or if
        weights are missing or damaged.
    """
    if isinstance(source, WarmUp):
        settings = Settings.from_config(warm_up.config_of(config))
        task = experiment.build_task(settings, settings.head, data, space.num_classes)
        weights = lambda: experiment.trained_weights(settings, task, mesh, workdir / warm_up.FOLDER)[0]
    else:
        _check_pretrained(config)
        settings = Settings.from_config(config)
        # A head is not needed: one that takes no room stands in its place.
        margin = {"margin": settings.head.margin} if "margin" in settings.head else {}
        task = experiment.build_task(settings, ConfigDict({"name": "ohe", **margin}), data, 1)
        weights = lambda: first_weights(settings, task, mesh)
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        means = class_means(task, weights(), train, settings.global_batch_size, mesh, space.num_classes)
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
        if "backbone" in settings.init_parts:
            settings = dataclasses.replace(settings, init_parts=("backbone",))
        else:
            settings = dataclasses.replace(settings, init_from="")
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


def _check_pretrained(config: ConfigDict) -> None:
    """Raises ValueError where features before the first step say nothing, or the head would come with other codes."""
    section = config.backbone
    if not (backbone.has_weights(config) or backbone.is_identity(section)):
        what = "the bag of the backbone" if "bag" in section else "the backbone"
        raise ValueError(
            f"config.codes.name is 'pretrained', but {what} {section.name!r} begins at random: take 'warmup', of many "
            "labels 'labels', or a pretrained backbone, or one from config.init_from"
        )
    if config.init_from and "head" in config.init_parts and not class_rows.has_rows(config.head.name):
        raise ValueError(
            f"config.init_parts is {tuple(config.init_parts)}, but codes.name = 'pretrained' finds new codes, and the "
            f"weights of a head {config.head.name!r} belong to its own: use these (codes.name = 'file' with its "
            "codes.npy, 'identity' where it has none), or init_parts = ('backbone',)"
        )
