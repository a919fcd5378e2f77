"""The mean feature of each class over a training split, features as evaluation has them."""

import collections
import contextlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mhe_jax.codes.vectors import ClassMeans
from mhe_jax.data.feeds import eval_feed
from mhe_jax.train.parallel.mesh import CHUNK, place, replicate, shares, whole


def class_means(task: Any, weights: dict, split: Any, batch_size: int, mesh: Mesh, num_classes: int) -> ClassMeans:
    """One pass over a split, each example once; examples with many labels count for each of them.

    Args:
      task: a backbone and a head.
      weights: {'params', 'batch_stats'} on the mesh.
      split: of training, with ids as labels.
      batch_size: over all devices.
      mesh: the ambient one.
      num_classes: C.
    """
    feed = eval_feed(split, batch_size, **shares(mesh))
    resident = replicate(mesh, feed.resident)
    means = ClassMeans(num_classes, task.head.features_dim)

    def embedded(weights: dict, resident: dict, chunk: dict) -> tuple:
        batch = feed.batch(resident, jax.tree.map(lambda part: part[0], chunk))
        return task.embed(weights, task.asked(batch)), batch["label"], batch["weight"]

    def add(found: tuple) -> None:
        features, labels, weight = jax.device_get(found)
        real = np.flatnonzero(weight)
        means.add(features[real], labels[real])

    program = jax.jit(embedded, out_shardings=whole(mesh))
    with contextlib.closing(feed):
        running: collections.deque = collections.deque()
        for step in range(feed.steps_per_epoch):
            running.append(program(weights, resident, place(mesh, feed.chunk(step, 1), CHUNK)))
            if len(running) > 1:  # the devices work on one while the last is added up
                add(running.popleft())
        while running:
            add(running.popleft())
    return means
