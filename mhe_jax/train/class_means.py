"""The mean feature of each class over a training split, features as evaluation has them."""

from typing import Any

import tqdm
from jax.sharding import Mesh

from mhe_jax.codes.vectors import ClassMeans
from mhe_jax.train.features import embedded
from mhe_jax.train.parallel import distributed


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
    means = ClassMeans(num_classes, task.head.features_dim)
    hidden = None if distributed.is_main() else True  # None shows the bar on a terminal only
    with tqdm.tqdm(total=split.num_examples, desc="class means", unit=" examples", disable=hidden) as bar:
        for batch in embedded(task, weights, split, batch_size, mesh):
            means.add(batch.features, batch.labels)
            bar.update(len(batch.rows))
    return means
