"""Top-k classes of one's own pictures, as JSON lines."""

import json
import pathlib
import sys
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data import build_data
from mhe_jax.data.image_folder import EXTENSIONS
from mhe_jax.train import experiment
from mhe_jax.train.mesh import make_mesh, replicate
from mhe_jax.train.settings import Settings

_BATCH = 64


def predict(
    config: ConfigDict,
    workdir: pathlib.Path,
    source: pathlib.Path,
    k: int,
    output: pathlib.Path | None = None,
) -> int:
    """Writes one line `{"input", "ids", "names", "scores"}` per picture; scores are probabilities, best first.

    Args:
      config: the run's config; its data set need not be present.
      workdir: a trained run.
      source: a picture, a folder of pictures (searched recursively), or a .npy of uint8 images [N, H, W, C].
      k: classes per picture.
      output: file to write; standard output without one.

    Returns:
      the number of pictures.

    Raises:
      ValueError: if the source is missing, empty or of another shape, or k exceeds the number of classes.
    """
    settings = Settings.from_config(config)
    _, classes = experiment.read_workdir(workdir)
    if not 1 <= k <= classes.number:
        raise ValueError(f"--top_k is {k}; it must be between 1 and the {classes.number} classes")
    mesh = make_mesh(settings.mesh)
    data = build_data(settings.data)
    task = experiment.build_task(settings, settings.head, data, classes.number, mesh)
    count = 0
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        weights, _ = experiment.trained_weights(settings, task, mesh, workdir)
        run = jax.jit(lambda weights, images: task.predict(weights, images, k))
        stream = output.open("w") if output else sys.stdout
        try:
            for names, images in _batches(source, data):
                # One shape for all batches; a multiple of the mesh, so that a sharded head can cut it.
                size = -(-_BATCH // mesh.size) * mesh.size
                padded = np.zeros((size, *images.shape[1:]), np.uint8)
                padded[: len(images)] = images
                scores, ids = jax.device_get(run(weights, replicate(mesh, padded)))
                for name, row_scores, row_ids in zip(names, scores, ids, strict=False):
                    found = row_ids >= 0
                    line = {
                        "input": name,
                        "ids": row_ids[found].tolist(),
                        "names": [classes.name(i) for i in row_ids[found]],
                        "scores": np.exp(row_scores[found]).round(6).tolist(),
                    }
                    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += len(names)
        finally:
            if output:
                stream.close()
    return count


def _batches(source: pathlib.Path, data) -> Iterator[tuple[list[str], np.ndarray]]:
    if source.suffix == ".npy":
        try:
            images = np.load(source, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{source} is not a readable .npy file: {error}") from None
        if not len(images) or images.dtype != np.uint8 or images.shape[1:] != data.image_shape:
            expected = ", ".join(map(str, data.image_shape))
            raise ValueError(f"{source} holds {images.dtype} {images.shape}; uint8 [N, {expected}] is needed")
        for start in range(0, len(images), _BATCH):
            rows = images[start : start + _BATCH]
            yield [f"{source}[{start + i}]" for i in range(len(rows))], np.asarray(rows)
        return
    paths = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not paths:
        raise ValueError(f"--input: there is no picture at {source}")
    for start in range(0, len(paths), _BATCH):
        some = paths[start : start + _BATCH]
        yield [str(path) for path in some], np.stack([data.read_image(path) for path in some])
