"""`mhe teach --workdir=RUN --output=FILE.npz`: what a run says of its training examples, for others to learn from.

Writes the probabilities of the --top_k best classes of each, a matrix of `scipy.sparse.save_npz`. Then:

    mhe train --config=... --config.distillation.name=scores --config.distillation.file=FILE.npz
"""

import pathlib

from absl import app, flags

from mhe_jax.cli import program

FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    flags.DEFINE_string("workdir", None, "A trained run, whose data is where it was.")
    flags.DEFINE_string("output", None, "The .npz to write.")
    flags.DEFINE_integer("top_k", 20, "Classes of an example; fewer where there are fewer.")
    flags.mark_flags_as_required(["workdir", "output"])
    program.run(command, argv)


def command(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    from mhe_jax.inference.teach import write_scores
    from mhe_jax.train import experiment

    workdir = pathlib.Path(FLAGS.workdir)
    config, top_k = experiment.usable_config(workdir), program.top_k(workdir)
    rows, classes = write_scores(config, workdir, pathlib.Path(FLAGS.output), top_k)
    print(f"{FLAGS.output}: {rows:,} examples, up to {top_k} of {classes:,} classes each")
