"""`mhe verify A.jpg B.jpg --workdir=RUN [--threshold=0.3]`: do two pictures show one person?

Prints one line of JSON: the cosine of the two embeddings, the threshold, and whether they are taken for the same, which
is where the cosine is at least the threshold. The threshold is the mean of those that were best on the folds of the
run's verification sets (`threshold` in result.json); pictures should be cut out and aligned like those the run was
trained on.
"""

import json
import pathlib

from absl import app, flags

from mhe_jax.cli import program


def main(argv: list[str]) -> None:
    flags.DEFINE_string("workdir", None, "A run on faces.")
    flags.DEFINE_float("threshold", None, "Cosine from which on two pictures show one person; default: the run's own.")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    if len(argv) != 3 or flags.FLAGS.workdir is None:
        raise app.UsageError("two pictures and --workdir=RUN are needed")
    from mhe_jax.inference.verify import verify

    print(json.dumps(verify(pathlib.Path(flags.FLAGS.workdir), argv[1], argv[2], flags.FLAGS.threshold)))
