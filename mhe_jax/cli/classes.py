"""`mhe classes RUN list | rename OLD NEW | retire NAME`: the classes of a trained run.

A renamed class keeps its id and all that was learnt; data in which it has the old name still fits. A retired one is
never predicted again: the others share its probability, and its code is free for a class that the run is extended by.
`list` has a line for each class: its id, its name, `trained`, `untrained` or `retired`, its digits, and the names that
it had before, with tabs between them.
"""

import pathlib
from collections.abc import Iterator

from absl import app

from mhe_jax.cli import program

USAGE = "mhe classes RUN list | rename OLD NEW | retire NAME"


def main(argv: list[str]) -> None:
    program.run(command, argv)


def command(argv: list[str]) -> None:
    arguments = argv[1:]
    match arguments:
        case [run, "list"]:
            for line in lines(pathlib.Path(run)):
                print(line)
        case [run, "rename", old, new]:
            changed(pathlib.Path(run), lambda classes: classes.renamed(old, new))
            print(f"{run}: {old!r} is {new!r} now")
        case [run, "retire", name]:
            changed(pathlib.Path(run), lambda classes: classes.without(name))
            print(f"{run}: {name!r} is retired")
        case _:
            raise app.UsageError(f"not {' '.join(arguments)!r}, but: {USAGE}")


def lines(workdir: pathlib.Path) -> Iterator[str]:
    """A line for each class of a run."""
    from mhe_jax.train import class_files

    for row in class_files.listed(workdir):
        yield "\t".join(row)


def changed(workdir: pathlib.Path, change) -> None:
    """Replaces the classes of a run by what `change` makes of them."""
    from mhe_jax.train import class_files

    class_files.change(workdir, change)
