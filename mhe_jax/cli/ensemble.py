"""`mhe ensemble RUN RUN RUN [--method=score] [--output=FILE.npz]`: the average of several runs on the same documents.

Each RUN is a workdir with predictions (`mhe predict --workdir=RUN`). What is averaged over the runs, where a label that
a run did not keep counts as the worst that the run could say of it:

  score    the probabilities; a missing one is 0. The published system sums them (ensemble_direct.py).
  sigmoid  the log-odds, of which the sigmoid is taken; a missing one is the document's lowest of that run.
  rank     the places: of the K labels that a run keeps the first counts 1, the next 1 - 1/K, and so on; a missing one
           counts 0. The order is that of PECOS' rank_average.

Printed are a table, and the same figures as one line of JSON. The output holds the ensemble's top 100 labels in the
form of predictions.npz.
"""

import json
import pathlib

from absl import flags

from mhe_jax.cli import program


def main(argv: list[str]) -> None:
    flags.DEFINE_enum("method", "score", ["rank", "score", "sigmoid"], "What is averaged.")
    flags.DEFINE_string("output", None, "File for the ensemble's top 100 labels, as predictions.npz.")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    from mhe_jax.inference.ensemble import run, table
    from mhe_jax.train.reporting.writers import finite

    output = flags.FLAGS.output
    figures = run([pathlib.Path(name) for name in argv[1:]], flags.FLAGS.method, output and pathlib.Path(output))
    print(table(figures))
    print(json.dumps(finite(figures)))
