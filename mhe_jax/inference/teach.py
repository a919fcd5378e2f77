"""What a trained run says of its training examples, as a file that other runs learn from (`config.distillation`)."""

import contextlib
import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data.feeds import eval_feed
from mhe_jax.inference import predictions
from mhe_jax.inference.opened import opened
from mhe_jax.train import left_to_data
from mhe_jax.train.parallel import distributed
from mhe_jax.train.parallel.mesh import CHUNK, place, replicate, shares, whole


def write_scores(config: ConfigDict, workdir: pathlib.Path, output: pathlib.Path, k: int) -> tuple[int, int]:
    """Writes the probabilities of the k best classes of each training example, as evaluation sees it.

    The file is a matrix [N, C] by the data's classes, see `mhe_jax.data.teacher`; where a narrow beam finds fewer
    classes it has fewer.

    Args:
      config: of the run; its data is where it was.
      workdir: the run.
      output: the .npz.
      k: classes of an example.

    Returns:
      (N, C).

    Raises:
      ValueError: if the run has no weights, its data has changed, or there are no k classes.
    """
    trained = opened(left_to_data.as_trained(config, workdir), workdir)
    mesh = trained.mesh
    task: Any = trained.task
    if not 1 <= k <= trained.num_live:
        raise ValueError(f"--top_k is {k}; it must be between 1 and the {trained.num_live} classes")
    splits, numbering = trained.load_numbered()
    split = splits.train
    batch_size = -(-trained.settings.global_batch_size // mesh.size) * mesh.size
    ids = np.full((split.num_examples, k), -1, np.int32)
    scores = np.zeros((split.num_examples, k), np.float32)
    with (
        jax.set_mesh(mesh),
        jax.default_matmul_precision(trained.settings.matmul_precision),
        contextlib.closing(eval_feed(split, batch_size, **shares(mesh))) as feed,
    ):
        resident = replicate(mesh, feed.resident)

        def best(weights: dict, resident: dict, chunk: dict) -> tuple[jax.Array, jax.Array]:
            batch = feed.batch(resident, jax.tree.map(lambda part: part[0], chunk))
            asked: Any = task.asked(batch)
            return task.predict(weights, asked, k)

        program = jax.jit(best, out_shardings=whole(mesh))
        for step in range(feed.steps_per_epoch):
            rows = feed.rows(step)
            found = jax.device_get(program(trained.weights, resident, place(mesh, feed.chunk(step, 1), CHUNK)))
            real = np.flatnonzero(rows.weight)
            scores[rows.index[real]], ids[rows.index[real]] = np.exp(found[0][real]), found[1][real]
    if distributed.is_main():
        output.parent.mkdir(parents=True, exist_ok=True)
        by_data = numbering.ids(trained.codes.ids(ids))
        predictions.save(output, predictions.csr_of(by_data, scores, numbering.num_classes))
    return split.num_examples, numbering.num_classes
