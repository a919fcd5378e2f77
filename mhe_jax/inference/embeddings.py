"""Embeddings of one's own pictures by a run on faces: as arrays, and as files."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.inference.inputs import Unreadable, pictures
from mhe_jax.inference.opened import BATCH_SIZE, Trained, opened
from mhe_jax.tasks.verification import Verification
from mhe_jax.train.parallel import distributed
from mhe_jax.train.reporting import stored


class Embedder:
    """Embeds any number of pictures with a trained run; see `opened_embedder`."""

    def __init__(self, trained: Trained, flip: bool):
        task: Any = trained.task
        self._trained = trained
        self._embed = trained.compiled(task.embed if flip else task.embed_once)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the pictures."""
        return self._data.image_shape

    @property
    def features_dim(self) -> int:
        """Width D of the embeddings."""
        return self._trained.task.head.features_dim

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C] -> float32 [N, D], not normalised."""
        batches = ((None, images[start : start + BATCH_SIZE]) for start in range(0, len(images), BATCH_SIZE))
        nothing = np.zeros((0, self.features_dim), np.float32)
        return np.concatenate([nothing, *(part for _, part in self._trained.results(self._embed, batches))])

    def read(self, path: str | pathlib.Path) -> np.ndarray:
        """A picture as the run sees it, uint8 [H, W, C]; raises decode.BadExample naming the file."""
        return self._data.read_image(path)

    def pictures(self, source: str, on_bad: Callable[[Exception], None]) -> Iterator[tuple[list[str], np.ndarray]]:
        """Names and pixels of the pictures that `mhe_jax.inference.inputs.pictures` finds."""
        return pictures(source, self._data, BATCH_SIZE, on_bad)

    @property
    def _data(self) -> Any:
        return self._trained.data


def opened_embedder(config: ConfigDict, workdir: pathlib.Path, flip: bool = False) -> Embedder:
    """The model of a run on faces.

    Args:
      config: of the run.
      workdir: the run.
      flip: whether the embedding of the mirrored picture is added, as verification does, where the data allows it.

    Raises:
      ValueError: if the run is not one on faces, or has no weights.
    """
    trained = opened(config, workdir)
    if not isinstance(trained.data, FaceData) or not isinstance(trained.task, Verification):
        raise ValueError(f"{workdir} is a run on {trained.settings.data.name!r}, whose features are no embeddings")
    return Embedder(trained, flip)


def unit_length(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings float32 [N, D] scaled to length 1; one of length 0 stays as it is."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)


def write_embeddings(config: ConfigDict, workdir: pathlib.Path, source: str, output: pathlib.Path | None) -> int:
    """Writes the embeddings of pictures as a .npy file [N, D], float32 of length 1, and their names as JSON beside it.

    A picture that cannot be read is in neither; it is named on standard error, and an error at the end counts them.

    Args:
      config: of the run.
      workdir: a run on faces.
      source: see `mhe_jax.inference.inputs.pictures`.
      output: the .npy file; `<workdir>/embeddings.npy` without one. The names are in the .json of the same name.

    Returns:
      the number of pictures.

    Raises:
      ValueError: if there is no picture, or `output` is no .npy file; at the end, if pictures could not be read.
    """
    path = output or workdir / "embeddings.npy"
    if path.suffix != ".npy":
        raise ValueError(f"--output is {path}; embeddings are written to a .npy file, and names to the .json beside it")
    names: list[str] = []
    embed = opened_embedder(config, workdir, flip=True)
    unreadable = Unreadable()
    parts = [np.zeros((0, embed.features_dim), np.float32)]
    for some, images in embed.pictures(source, unreadable):
        names += some
        parts.append(embed(images))
    if not names:
        unreadable.check(0)  # and an earlier output stays
    if distributed.is_main():
        np.save(path, unit_length(np.concatenate(parts)))
        listed = stored.as_text(names, indent=0) + "\n"
        path.with_suffix(".json").write_text(listed, encoding="utf-8")
    unreadable.check(len(names))
    return len(names)
