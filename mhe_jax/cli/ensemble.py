"""`mhe ensemble RUN RUN RUN [--weights=auto] [--method=score] [--output=FILE.npz]`: several runs on the same documents.

Each RUN is a workdir with predictions (`mhe predict --workdir=RUN`), or the folder of a baseline (`mhe baseline METHOD
--workdir=RUN`). Predictions of other weights or classes than a run has now are refused, and so are runs of which one
has retired a class that another one has.

What is averaged over the runs, where a label that a run did not keep counts as the worst that the run could say of it:

  score    the probabilities; a missing one is 0. The published system sums them (ensemble_direct.py).
  sigmoid  the log-odds, of which the sigmoid is taken; a missing one is the document's lowest of that run.
  rank     the places: of the K labels that a run keeps the first counts 1, the next 1 - 1/K, and so on; a missing one
           counts 0. The order is that of PECOS' rank_average.

--weights=W,W,... weighs the runs, in their order. --weights=auto chooses weights, and without --method that too, by
nDCG@5 on the documents that chose the runs' best checkpoints, never on those that it reports: `mhe predict
--workdir=RUN --split=val` predicts them of a run; a baseline's folder has them.

Printed are how the runs were fused, a table, and the same as one line of JSON. The output holds the ensemble's top 100
labels in the form of predictions.npz.
"""

import json
import pathlib

from absl import app, flags

from mhe_jax.cli import program


def main(argv: list[str]) -> None:
    flags.DEFINE_enum(
        "method", None, ["rank", "score", "sigmoid"], "What is averaged; by default score, or what auto finds."
    )
    flags.DEFINE_string("weights", None, "auto, or a number for each run: W,W,...; by default all are the same.")
    flags.DEFINE_string("output", None, "File for the ensemble's top 100 labels, as predictions.npz.")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    weights = weights_of(flags.FLAGS.weights)
    from mhe_jax.inference.ensemble import run, table, told
    from mhe_jax.train.reporting.writers import finite

    output = flags.FLAGS.output
    workdirs = [pathlib.Path(name) for name in argv[1:]]
    figures = run(workdirs, flags.FLAGS.method, output and pathlib.Path(output), weights)
    print(told(figures))
    print(table(figures))
    print(json.dumps(finite(figures)))


def weights_of(text: str | None) -> str | list[float] | None:
    """The numbers of --weights; 'auto' and None stay what they are."""
    if text is None or text == "auto":
        return text
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise app.UsageError(f"--weights={text}: give auto, or a number for each run, such as 2,1") from None
