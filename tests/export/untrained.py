"""Runs with new weights, for tests of what becomes of any weights: no training, no checkpoint."""

import pathlib

import jax
import numpy as np
from flax import linen as nn

from mhe_jax.data.build import build_data
from mhe_jax.inference.opened import Trained
from mhe_jax.labels import LabelCodes
from mhe_jax.settings import Settings
from mhe_jax.train import experiment
from mhe_jax.train.parallel.mesh import make_mesh
from tests import tiny_bag_config, tiny_config, tiny_face_config, tiny_features_config, tiny_text_config

WIDTH, CLASSES = 12, 11
TINY = {
    "pictures": tiny_config,
    "texts": tiny_text_config,
    "faces": tiny_face_config,
    "features": tiny_features_config,
    "sparse": tiny_bag_config,
}


def config_of(kind: str, head: dict | None = None):
    """The tiny config of a kind, with another head."""
    config = TINY[kind].get_config(*(["sparse"] if kind == "sparse" else []))
    config.mesh.update(data=-1, classes=1)
    with config.unlocked():
        if kind in ("features", "sparse"):
            config.data.update(features_dim=WIDTH, num_classes=CLASSES)
            config.global_batch_size = 8
        if head is not None:
            config.head = head
    return config


def untrained(config, folder: pathlib.Path, seed: int = 0, load: bool = False) -> Trained:
    """A run in `folder` without checkpoints, by codes that are no ids, on one device's worth of whole tables.

    `load` says whether its data is read, which learns words.
    """
    settings = Settings.from_config(config)
    data = build_data(settings.data)
    if load:
        data.load()
    rng = np.random.default_rng(seed)
    codes = LabelCodes.of(rng.permutation(data.num_classes))
    classes = experiment.Classes(data.num_classes, ())
    experiment.claim_workdir(folder, config, classes, data, codes=codes)
    task = experiment.build_task(settings, settings.head, data, data.num_classes)
    params, batch_stats = nn.unbox(jax.eval_shape(task.init, jax.random.key(seed)))

    def drawn(path, leaf):
        """Weights that tell classes apart, in every part of every head; scales and variances are near 1."""
        values = rng.normal(size=leaf.shape).astype(np.float32)
        return np.abs(1 + 0.1 * values) if path[-1].key in ("scale", "var") else 0.4 * values

    weights = jax.tree_util.tree_map_with_path(drawn, {"params": params, "batch_stats": batch_stats})
    return Trained(folder, settings, data, classes, codes, make_mesh(settings.mesh), task, weights)
