"""Readable names of classes from a file: data sets name their folders n01440764, and people want to read `tench`."""

import pathlib

from mhe_jax.data.dataset import DataError
from mhe_jax.data.files import require_file
from mhe_jax.data.lines import read_lines
from mhe_jax.train.experiment import Classes


def with_names(classes: Classes, path: pathlib.Path | None) -> Classes:
    """Classes with the names that a file gives them; as they are without a file.

    Args:
      classes: of a run.
      path: lines `NAME READABLE NAME`, the data's own name of a class up to the first tab or else space, in any order
        and with more than there are, as ImageNet's synset files; or one name a line, in the order of the classes.

    Raises:
      DataError: naming the file, unless it is one of both.
    """
    if path is None:
        return classes
    require_file(path)
    lines = [line.strip() for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    pairs = (line.partition("\t" if "\t" in line else " ") for line in lines)
    readable = {name: text.strip() for name, _, text in pairs if text.strip()}
    missing = [name for name in classes.names if name not in readable]
    if classes.names and not missing:
        return Classes(classes.number, tuple(readable[name] for name in classes.names))
    if len(lines) == classes.number and all(lines):
        return Classes(classes.number, tuple(lines))
    what = f"lacks a line for {missing[0]!r}, the first of {len(missing)}, and " if classes.names else ""
    raise DataError(
        f"{path} {what}has {len(lines)} lines for {classes.number} classes: lines must be `NAME READABLE NAME`, or one "
        "for each class"
    )
