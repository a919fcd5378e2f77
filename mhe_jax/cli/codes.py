"""`mhe codes --workdir=RUN --output=codes.npy`: codes of classes under which similar ones share their first digits.

The vectors that are clustered are the class means of a trained run's features over its training data, or come from
files: `--features=F.npy`, float [N, D], with `--labels=L.npy`, int [N], the class of each row, or without it a row for
each class. A run then takes the file as --config.codes.name=file --config.codes.path=codes.npy; its head must have the
same --head_sizes.
"""

import pathlib
import time

from absl import app, flags

from mhe_jax.cli import program
from mhe_jax.recipes.arguments import head_sizes

FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    flags.DEFINE_string("workdir", None, "A trained run, whose data is where it was.")
    flags.DEFINE_string("features", None, "A .npy of vectors, float [N, D]; read in blocks.")
    flags.DEFINE_string("labels", None, "A .npy of the class of each row of --features, int [N].")
    flags.DEFINE_string("head_sizes", None, "Digits, such as 41x40; by default those of the run's head.")
    flags.DEFINE_integer(
        "num_classes", 0, "With --labels: how many classes there are; 0: one more than the last label."
    )
    flags.DEFINE_integer("seed", 0, "Of the clustering.")
    flags.DEFINE_string("output", None, "The file to write, .npy.")
    flags.mark_flag_as_required("output")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    output = pathlib.Path(FLAGS.output)
    if output.suffix != ".npy" or not output.parent.is_dir():
        raise ValueError(f"--output is {output}; it must be a .npy in an existing folder")
    if (FLAGS.workdir is None) == (FLAGS.features is None):
        raise app.UsageError("one of --workdir and --features is needed")
    from mhe_jax.codes.clustering import clustered
    from mhe_jax.codes.files import write_codes
    from mhe_jax.labels import LabelSpace

    started = time.monotonic()
    if FLAGS.workdir:
        from mhe_jax.inference.class_vectors import run_vectors

        means, space = run_vectors(pathlib.Path(FLAGS.workdir))
        vectors, present = means.vectors, means.present
        sizes = given_sizes() if FLAGS.head_sizes else space.head_sizes
    else:
        if not FLAGS.head_sizes:
            raise ValueError("--head_sizes is missing: the digits of the codes, such as 41x40")
        vectors, present = from_files(pathlib.Path(FLAGS.features), FLAGS.labels, FLAGS.num_classes)
        sizes = given_sizes()
    if len(sizes) == 1:
        raise ValueError(f"--head_sizes is {sizes[0]}: one digit is the class itself, and has no groups")
    codes = clustered(vectors, LabelSpace(len(vectors), sizes), FLAGS.seed, present)
    write_codes(output, codes)
    absent = int((~present).sum())
    placed = f", {absent:,} of them without examples" if absent else ""
    shown = "x".join(map(str, sizes))
    print(f"{output}: {codes.num_classes:,} classes as {shown}{placed}, {time.monotonic() - started:.0f} s")


def given_sizes() -> tuple[int, ...]:
    """The digits of --head_sizes."""
    sizes = head_sizes(FLAGS.head_sizes)
    if not sizes:
        raise ValueError(f"--head_sizes is {FLAGS.head_sizes}; it must be digits such as 41x40")
    return sizes


def from_files(features: pathlib.Path, labels: str | None, num_classes: int) -> tuple:
    """Vectors of classes, and which of them there are, from a file of vectors and perhaps one of labels."""
    import numpy as np

    from mhe_jax.codes.vectors import ClassMeans

    rows = _array(features, 2, "f")
    if labels is None:
        return rows, np.ones(len(rows), bool)
    of_row = _array(pathlib.Path(labels), 1, "iu")
    if len(of_row) != len(rows):
        raise ValueError(
            f"{features} has {len(rows)} rows, but {labels} has {len(of_row)}: one label for each is needed"
        )
    number = num_classes or int(of_row.max(initial=0)) + 1
    outside = np.flatnonzero((of_row < 0) | (of_row >= number))
    if len(outside):
        raise ValueError(f"{labels}: row {outside[0]} has label {of_row[outside[0]]}, but there are {number} classes")
    means = ClassMeans(number, rows.shape[1])
    for start in range(0, len(rows), 2**16):
        block = slice(start, start + 2**16)
        means.add(np.asarray(rows[block], np.float32), of_row[block].astype(np.int64))
    return means.vectors, means.present


def _array(path: pathlib.Path, axes: int, kinds: str):
    import numpy as np

    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no array of numbers: {error}") from None
    if not isinstance(found, np.ndarray):
        found.close()
        raise ValueError(f"{path} is no array of numbers, but an archive of several")
    if found.ndim != axes or found.dtype.kind not in kinds:
        wanted = "float [N, D]" if axes == 2 else "int [N]"
        raise ValueError(f"{path} is {found.dtype} {list(found.shape)}; it must be {wanted}")
    return found
