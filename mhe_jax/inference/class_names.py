"""Readable names of classes from a file: data sets name their folders n01440764, and people want to read `tench`."""

import dataclasses
import pathlib

from mhe_jax.data.dataset import DataError
from mhe_jax.data.files import require_file
from mhe_jax.data.lines import read_lines
from mhe_jax.train.classes import Classes


def with_names(classes: Classes, path: pathlib.Path | None) -> Classes:
    """Classes with the names that a file gives them; as they are without a file.

    Args:
      classes: of a run.
      path: lines `NAME READABLE NAME`, the data's own name of a class up to the first tab or else space, in any order
        and with more than there are, as ImageNet's synset files; or one name a line, in the order of the classes. The
        second is believed only where no line names a class of the data.

    Raises:
      DataError: naming the file, unless it is one of both.
    """
    if path is None:
        return classes
    require_file(path)
    lines = [line.strip() for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    readable: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, _, text = (part.strip() for part in line.partition("\t" if "\t" in line else " "))
        if readable.setdefault(name, text) != text:
            raise DataError(f"{path}:{number}: {name!r} is {text!r}, and {readable[name]!r} in an earlier line")
    if tuple(lines) == classes.names:
        return classes
    missing = [name for name in classes.names if not readable.get(name)]
    if classes.names and not missing:
        return dataclasses.replace(classes, names=tuple(readable[name] for name in classes.names))
    named = [name for name in classes.names if name in readable]
    if named:
        raise DataError(
            f"{path} has a line for {named[0]!r}, but lacks a readable name for {missing[0]!r} and {len(missing) - 1} "
            "other classes"
        )
    if len(lines) == classes.number and all(lines):
        return dataclasses.replace(classes, names=tuple(lines))
    raise DataError(
        f"{path} has {len(lines)} lines for {classes.number} classes, and none that begins with a class of the data: "
        "lines must be `NAME READABLE NAME`, or one for each class"
    )
