"""`mhe decide RUN [--maximize=micro_f1] [--per=global] [--calibrate=isotonic]`: what a run answers, and how surely.

RUN is a workdir whose data is where it was. On its held-out examples, those that chose the best checkpoint and are not
the test examples, the probabilities are calibrated, and thresholds chosen: those of the best F1, or with --precision
the lowest that reach it. Of a run with one class an example the threshold parts its best class from `none of these`.

Both are kept in RUN/decision.safetensors, for `mhe predict --threshold=auto`, `mhe eval`, `mhe serve` and
`mhe_jax.load(RUN).predict(inputs, threshold="auto")`; RUN/reliability.png shows how often probabilities were right.
Printed is JSON.
"""

import json
import pathlib

from absl import app, flags

from mhe_jax.cli import program


def main(argv: list[str]) -> None:
    flags.DEFINE_string("maximize", "micro_f1", "micro_f1, macro_f1 or example_f1.")
    flags.DEFINE_string("per", "global", "A threshold for all labels (global), each group of the codes, or each label.")
    flags.DEFINE_float("precision", None, "Takes the lowest thresholds of at least this precision instead.")
    flags.DEFINE_string("calibrate", "none", "none, temperature or isotonic.")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    if len(argv) != 2:
        raise app.UsageError("a workdir is needed: mhe decide RUN")
    from mhe_jax.inference.decide import decide
    from mhe_jax.train import compilation_cache
    from mhe_jax.train.experiment import usable_config

    workdir, options = pathlib.Path(argv[1]), flags.FLAGS
    compilation_cache.enable()
    config = usable_config(workdir)
    found = decide(config, workdir, options.maximize, options.per, options.precision, options.calibrate)
    print(json.dumps(found))
