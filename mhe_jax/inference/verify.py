"""Do two pictures show one person? Asks a run on faces."""

import json
import pathlib

import numpy as np

from mhe_jax.evaluation.similarity import pair_similarities
from mhe_jax.inference.embeddings import opened_embedder
from mhe_jax.train.experiment import usable_config


def verify(workdir: pathlib.Path, first: str, second: str, threshold: float | None = None) -> dict:
    """`similarity`, `threshold` and `same` of two pictures: whether the one is at least the other.

    Args:
      workdir: a run on faces.
      first, second: picture files.
      threshold: a cosine; None takes that of the run's best evaluation.

    Raises:
      ValueError: if a picture cannot be read, the folder is not a run on faces, or has no threshold and none is given.
    """
    if threshold is None:
        threshold = best_threshold(workdir)
    embed = opened_embedder(usable_config(workdir), workdir, flip=True)
    embeddings = embed(np.stack([embed.read(path) for path in (first, second)]))
    similarity = float(pair_similarities(embeddings, np.array([0]), np.array([1]))[0])
    return {"similarity": round(similarity, 6), "threshold": threshold, "same": similarity >= threshold}


def best_threshold(workdir: pathlib.Path) -> float:
    """The threshold of the best evaluation of a run.

    Raises:
      ValueError: if the run has none.
    """
    path = workdir / "result.json"
    try:
        best = json.loads(path.read_text())["best"]
        return best["threshold"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{path} holds no threshold: finish the run, or name one with --threshold") from None
