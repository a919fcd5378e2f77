"""`mhe ijb RUN FOLDER [--target=IJBB] [--noflip] [--nodetector_score] [--nonorm_score]`: IJB-B or IJB-C.

RUN is a workdir. FOLDER holds the benchmark as it is passed on with loosely cropped faces: `loose_crop/*.jpg`, and in
`meta` the files that `mhe_jax/evaluation/ijb_meta.py` describes; without those of the 1:N protocol only the 1:1 figures
are measured. Printed is JSON, which is also written to RUN/ijbc.json, and the ROC is drawn in RUN/ijbc_roc.png.
"""

import json
import pathlib

from absl import app, flags

from mhe_jax.cli import program


def main(argv: list[str]) -> None:
    flags.DEFINE_enum("target", "IJBC", ["IJBB", "IJBC"], "The benchmark.")
    flags.DEFINE_boolean("flip", True, "Adds the embedding of the mirror image.")
    flags.DEFINE_boolean("detector_score", True, "Weighs pictures with the score of their face's detection.")
    flags.DEFINE_boolean("norm_score", True, "Keeps the lengths of the embeddings; otherwise they are normalised.")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    if len(argv) != 3:
        raise app.UsageError("a workdir and the benchmark's folder are needed: mhe ijb RUN FOLDER")
    from mhe_jax.inference.embeddings import opened_embedder
    from mhe_jax.inference.ijb import evaluate
    from mhe_jax.train.experiment import usable_config

    workdir, folder = map(pathlib.Path, argv[1:])
    options: dict[str, bool] = {
        name: bool(flags.FLAGS[name].value) for name in ("flip", "detector_score", "norm_score")
    }
    embed = opened_embedder(usable_config(workdir), workdir)
    print(json.dumps(evaluate(embed, folder, flags.FLAGS.target, workdir, **options)))
