"""`mhe embed --workdir=RUN --output=DIR`: the features of a backbone, once, for heads that are then trained in minutes.

Writes DIR/{train,val,test}/features.npy with labels.npy, or labels.npz where examples have many labels, and
DIR/classes.txt: the features of all splits of a run's data, as its head sees them. Without a run,
`--config=xmc_folder --config.data.path=DATA` takes the weights of a pretrained backbone, or of --config.init_from. A
command that is interrupted goes on when it is given again. Then:

    mhe train --config=features_ohe --config.data.path=DIR                 # features_ohe:multilabel for many labels
"""

import pathlib
import time

from absl import app, flags
from ml_collections import config_flags

from mhe_jax.cli import program

FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    config_flags.DEFINE_config_file("config", None, "FILE[:ARGUMENTS], or the name of a shipped config; without a run.")
    flags.DEFINE_string("workdir", None, "A trained run, whose data is where it was.")
    flags.DEFINE_string("output", None, "The folder to write.")
    flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "Of the features.")
    flags.DEFINE_string("pooling", "", "Of texts: first, last or mean, where it shall be another than the config's.")
    flags.mark_flag_as_required("output")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if (FLAGS.workdir is None) == (FLAGS.config is None):
        raise app.UsageError("one of --workdir and --config is needed")
    from mhe_jax.inference.embed_splits import embed_splits
    from mhe_jax.train import experiment

    started = time.monotonic()
    workdir = pathlib.Path(FLAGS.workdir) if FLAGS.workdir else None
    config = experiment.usable_config(workdir) if workdir else FLAGS.config
    written = embed_splits(config, workdir, pathlib.Path(FLAGS.output), FLAGS.dtype, FLAGS.pooling)
    shown = ", ".join(f"{rows:,} x {width:,} in {name}/" for name, (rows, width) in written.items())
    print(f"{FLAGS.output}: {shown}, {time.monotonic() - started:.0f} s")
