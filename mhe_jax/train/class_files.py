"""The classes of a run on disk, listed and changed."""

import pathlib
from collections.abc import Callable, Iterator

from mhe_jax.train import experiment, label_codes
from mhe_jax.train.checkpoints import lock
from mhe_jax.train.classes import FILE, TRAINED, Classes
from mhe_jax.train.reporting import stored
from mhe_jax.train.reporting.writers import write_atomically


def listed(workdir: pathlib.Path) -> Iterator[tuple[str, ...]]:
    """Of each class of a run its id, its name, its state, its digits (with dots; empty for none), and former names.

    Raises:
      ValueError: if the folder is not a run's.
    """
    config, classes = experiment.read_workdir(workdir)
    codes = label_codes.stored(workdir, classes.number)
    space = classes.space(config.head, codes)
    known = classes.before(codes)[1] if has_to_train(workdir, classes) else codes
    for index, name in enumerate(classes.all_names):
        code = int(codes.code_of_id[index])
        digits = ".".join(map(str, space.encode([code])[0])) if code >= 0 else ""
        former = classes.former.get(name, ())
        yield (str(index), name, classes.state(index, known), digits, *([", ".join(former)] if former else []))


def num_live(workdir: pathlib.Path) -> int:
    """How many classes a run can predict; raises ValueError if the folder is not a run's."""
    _, classes = experiment.read_workdir(workdir)
    return sum(row[2] == TRAINED for row in listed(workdir)) if classes.is_kept else classes.number


def change(workdir: pathlib.Path, change: Callable[[Classes], Classes]) -> None:
    """Replaces the classes of a run at once: a crash leaves the old file or the new one.

    Raises:
      ValueError: if the folder is not a run's, or as `change` does.
      OSError: while the run trains.
    """
    config, _ = experiment.read_workdir(workdir)
    with lock.held(workdir):
        _, classes = experiment.read_workdir(workdir)
        new = change(classes).kept(config.head)
        write_atomically(workdir / FILE, stored.as_text(new.as_fields()) + "\n")


def has_to_train(workdir: pathlib.Path, classes: Classes) -> bool:
    """Whether a run has been extended, and has not taken a step since."""
    steps = [int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdigit()]
    return classes.begun is not None and not any(steps)
