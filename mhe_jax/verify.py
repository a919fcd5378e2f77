"""Do two pictures show one person? Asks a run on faces.

    python -m mhe_jax.verify A.jpg B.jpg --workdir=RUN [--threshold=0.3]

Prints one line of JSON: the cosine of the two embeddings, the threshold, and whether they are taken for the same. The
threshold is the mean of those that were best on the folds of the run's verification sets (`threshold` in result.json);
pictures should be cut out and aligned like those the run was trained on.
"""

import json
import pathlib
import sys

import numpy as np
from absl import app, flags, logging

from mhe_jax.protocols.similarity import pair_similarities

FLAGS = flags.FLAGS


def verify(workdir: pathlib.Path, first: str, second: str, threshold: float | None = None) -> dict:
    """`similarity`, `threshold` and `same` of two pictures.

    Args:
      workdir: a run on faces.
      first, second: picture files.
      threshold: a cosine; None takes that of the run's best evaluation.

    Raises:
      ValueError: if a picture cannot be read, the folder is not a run on faces, or has no threshold and none is given.
    """
    from mhe_jax.train.embeddings import opened_embedder
    from mhe_jax.train.experiment import usable_config

    if threshold is None:
        threshold = best_threshold(workdir)
    with opened_embedder(usable_config(workdir), workdir, flip=True) as embed:
        embeddings = embed(np.stack([embed.read(path) for path in (first, second)]))
    similarity = float(pair_similarities(embeddings, np.array([0]), np.array([1]))[0])
    return {"similarity": round(similarity, 6), "threshold": threshold, "same": similarity > threshold}


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


def main(argv: list[str]) -> int:
    logging.set_verbosity(logging.WARNING)
    if len(argv) != 3 or FLAGS.workdir is None:
        raise app.UsageError("two pictures and --workdir=RUN are needed")
    try:
        print(json.dumps(verify(pathlib.Path(FLAGS.workdir), argv[1], argv[2], FLAGS.threshold)))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "A run on faces.")
    flags.DEFINE_float("threshold", None, "Cosine above which two pictures show one person; default: the run's own.")
    app.run(main)
