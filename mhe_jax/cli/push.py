"""`mhe push --workdir=RUN --to=FOLDER|hub:OWNER/NAME`: a trained run as a folder that others load.

Writes config.json, model.safetensors, the classes and their codes, what reads texts, result.json, and a model card made
from these; no pickle, no code and no path of this machine. `mhe_jax.load("FOLDER")`, `mhe_jax.load("hub:OWNER/NAME")`
and `mhe predict --workdir=FOLDER` then answer as the run does. The hub's token is that of `hf auth login`.
"""

import pathlib

from absl import app, flags

from mhe_jax.cli import program

FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    flags.DEFINE_string("workdir", None, "A trained run.")
    flags.DEFINE_string("to", None, "A folder, or hub:OWNER/NAME.")
    flags.DEFINE_string("license", "", "For the card, an identifier such as apache-2.0.")
    flags.DEFINE_bool("private", False, "Of a new repository on the hub: whether others cannot see it.")
    for name in ("workdir", "to"):
        flags.mark_flag_as_required(name)
    program.run(command, argv)


def command(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    from mhe_jax.export.push import push
    from mhe_jax.train import experiment

    workdir = pathlib.Path(FLAGS.workdir)
    print(push(experiment.usable_config(workdir), workdir, FLAGS.to, FLAGS.license, FLAGS.private))
