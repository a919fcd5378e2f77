"""`mhe search PICTURE --workdir=RUN --gallery=FOLDER [--top_k=5] [--threshold=0.3]`: whom does a picture show?

PICTURE is one, or a folder of some. FOLDER holds the people that are known, FOLDER/<person>/*.jpg; pictures in FOLDER
itself are each a person of the file's name. Printed is a line of JSON for each picture, with the people whose most
similar picture has a cosine of at least the threshold, which is that of `mhe verify`. Pictures of both kinds should be
cut out and aligned like those the run was trained on, as `mhe align` does.
"""

import pathlib

from absl import app, flags

from mhe_jax.cli import program


def main(argv: list[str]) -> None:
    flags.DEFINE_string("workdir", None, "A run on faces.")
    flags.DEFINE_string("gallery", None, "Folder of pictures of known people, a folder for each person.")
    flags.DEFINE_integer("top_k", 5, "People named for a picture, at most.")
    flags.DEFINE_float("threshold", None, "Cosine from which on a person is named; default: the run's own.")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    values = flags.FLAGS
    if len(argv) != 2 or values.workdir is None or values.gallery is None:
        raise app.UsageError("a picture or a folder, --workdir=RUN and --gallery=FOLDER are needed")
    from mhe_jax.inference.search import search
    from mhe_jax.train.reporting.stored import as_text

    asked = pathlib.Path(values.workdir), pathlib.Path(values.gallery), argv[1], values.top_k, values.threshold
    for found in search(*asked):
        print(as_text(found), flush=True)
