"""`mhe extend RUN --data=DIR --out=NEW`: a trained run, and classes that it does not know yet.

DIR is data of the run's kind, with all of its classes and new ones. Each class that is there keeps its id, its code and
its rows; new ones enter the groups that they resemble, or new groups, with rows begun from the means of their features.
NEW is a run of its own, trained on for --epochs: the head alone, on the backbone as it is, or with --train=all
everything. RUN is only read. An interrupted command goes on when it is given again, as any training does:

    mhe extend runs/old --data=DATA --out=runs/new
    mhe extend runs/old --data=DATA --out=runs/new --epochs=0     # the new rows are begun and nothing is trained
    mhe train --workdir=runs/new                                  # on with it
"""

import json
import pathlib

from absl import app, flags

from mhe_jax.cli import program

FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    flags.DEFINE_string("data", None, "The folder, or file, with the classes of the run and new ones.")
    flags.DEFINE_string("out", None, "The new run's folder; by default RUN-extended.")
    flags.DEFINE_enum("train", "head", ["head", "all"], "What is trained: the head, or the backbone too.")
    flags.DEFINE_float("epochs", 1.0, "Passes over the data; 0 begins the rows of the new classes and trains nothing.")
    flags.DEFINE_float("learning_rate", 0.0, "At its highest; 0: a tenth of the run's.")
    flags.mark_flag_as_required("data")
    program.start(command, argv)


def command(argv: list[str]) -> int:
    if len(argv) != 2:
        raise app.UsageError("one run is needed: mhe extend RUN --data=DIR")
    program.quiet()
    return program.status_of(lambda: extend(pathlib.Path(argv[1])))


def extend(workdir: pathlib.Path) -> int:
    out = pathlib.Path(FLAGS.out) if FLAGS.out else workdir.with_name(f"{workdir.name}-extended")
    if FLAGS.epochs < 0:
        raise ValueError(f"--epochs is {FLAGS.epochs}; it must be 0 or more")
    if out.resolve() == workdir.resolve():
        raise ValueError(f"--out is {out}, the run itself, which stays as it is: name another folder")
    from mhe_jax.train import compilation_cache, extension, loop
    from mhe_jax.train.parallel import interruption
    from mhe_jax.train.reporting.writers import finite

    compilation_cache.enable()
    config = extension.config_of(
        workdir,
        data=FLAGS.data,
        epochs=FLAGS.epochs,
        freeze=FLAGS.train == "head",
        learning_rate=FLAGS.learning_rate,
    )
    result = loop.train_and_evaluate(config, out, interrupt_at=None if FLAGS.epochs else 0)
    print(json.dumps(finite(result), indent=2))
    return interruption.EXIT_CODE if result["interrupted"] and FLAGS.epochs else 0
