"""The classes of a run on disk, listed and changed."""

import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from mhe_jax.labels import LabelCodes
from mhe_jax.train import data_digest, experiment, label_codes
from mhe_jax.train.checkpoints import complete, lock, published
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
    states, digits = _states(workdir, classes, codes), classes.space(config.head, codes).encode(codes.code_of_id)
    for index, (name, state, row) in enumerate(zip(classes.all_names, states, digits.tolist(), strict=True)):
        former = classes.former.get(name, ())
        place = "" if row[0] < 0 else ".".join(map(str, row))
        yield (str(index), name, str(state), place, *([", ".join(former)] if former else []))


def num_live(workdir: pathlib.Path) -> int:
    """How many classes a run can predict; raises ValueError if the folder is not a run's."""
    _, classes = experiment.read_workdir(workdir)
    return int((_states(workdir, classes, label_codes.stored(workdir, classes.number)) == TRAINED).sum())


def _states(workdir: pathlib.Path, classes: Classes, codes: LabelCodes) -> np.ndarray:
    steps = complete.steps(workdir)
    has_to_train = bool(steps) and not any(steps)
    return classes.states(classes.before(codes)[1] if has_to_train else codes)


def change(workdir: pathlib.Path, change: Callable[[Classes], Classes]) -> None:
    """Replaces the classes of a run at once: a crash leaves the old file or the new one.

    Raises:
      ValueError: if the folder is not a run's, or of one that has no checkpoint yet, or as `change` does.
      OSError: while the run trains.
    """
    config, _ = experiment.read_workdir(workdir)
    if not (experiment.is_begun(workdir) or published.is_published(workdir)):
        raise ValueError(f"{workdir} has no checkpoint: until it has one, its classes are those of its data")
    with lock.held(workdir):
        _, classes = experiment.read_workdir(workdir)
        new = change(classes.kept(config.head))
        write_atomically(workdir / FILE, stored.as_text(new.as_fields()) + "\n")
        if new.retired != classes.retired:
            # Whose examples are to be taken out: the training that goes on keeps the figures of the data without them.
            (workdir / data_digest.FILE).unlink(missing_ok=True)
