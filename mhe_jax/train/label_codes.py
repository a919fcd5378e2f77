"""The codes of a run: decided before its first step, kept in its folder, and the same in all its processes."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from mhe_jax.codes.files import FILE, read_kept, write_codes
from mhe_jax.codes.sources import File, Frequency, Identity, OwnFeatures, Source, name_of
from mhe_jax.heads import digits_of
from mhe_jax.labels import LabelCodes, LabelSpace
from mhe_jax.train.checkpoints import complete, published


def stored(workdir: pathlib.Path, num_classes: int) -> LabelCodes:
    """The codes of the run in `workdir`; the identity where it keeps none, as runs from before there were codes.

    Raises:
      ValueError: if the file is damaged, or of other classes, or not that of a published run's weights.
    """
    path = workdir / FILE
    codes = read_kept(path, num_classes) if path.exists() else LabelCodes.identity(num_classes)
    digest = published.codes_digest(workdir)
    if digest is not None and digest != codes.digest:
        what = "holds other codes than those" if path.exists() else "is missing, with the codes"
        raise ValueError(f"{path} {what} of {published.WEIGHTS}: publish the run anew, or copy its whole folder")
    return codes


def keep(workdir: pathlib.Path, codes: LabelCodes) -> None:
    """Writes them into a run's folder; the identity leaves no file."""
    if codes.is_identity:
        (workdir / FILE).unlink(missing_ok=True)
    else:
        write_codes(workdir / FILE, codes)


def decided(
    source: Source,
    workdir: pathlib.Path,
    space: LabelSpace,
    names: Sequence[str],
    train: Any,
    seed: int,
    of_features: Callable[[], LabelCodes],
) -> LabelCodes:
    """The codes of a run.

    Args:
      source: of `config.codes`.
      workdir: of the run; one that has trained has its codes there.
      space: the classes and their digits.
      names: of the classes.
      train: the training split, with ids as labels.
      seed: of the run.
      of_features: finds the codes by the run's own features.

    Raises:
      ValueError: if the source is damaged, or the run has other codes.
    """
    if isinstance(source, Identity):
        return LabelCodes.identity(space.num_classes)
    if complete.steps(workdir):
        codes = stored(workdir, space.num_classes)
        _check_same_file(source, workdir, codes, space, names)
        return codes
    found = of_features() if isinstance(source, OwnFeatures) else source.codes(space, names, train, seed)
    return same_everywhere(found)


def check_head(source: Source, config: ConfigDict, num_classes: int) -> None:
    """Raises ValueError if codes could change nothing of a head, or are not in the order that it takes them to be in.

    Args:
      source: of `config.codes`.
      config: of the run; one that extends another takes the other's codes, and has passed.
      num_classes: of the data.
    """
    head = config.head
    if config.new_classes == "extend":
        return
    if frequent := head.get("frequent", 0):
        if not isinstance(source, Frequency | File):
            raise ValueError(
                f"config.head.frequent is {frequent}, for the classes with the first codes, but codes.name = "
                f"{name_of(source)!r} does not order them by frequency: set codes.name = 'frequency', or 'file' with a "
                "file that has the most frequent classes first"
            )
    elif (
        not isinstance(source, Identity)
        and digits_of(head.name, head.get("head_sizes", ()), num_classes).num_heads == 1
    ):
        raise ValueError(
            f"config.codes.name is {name_of(source)!r}, but the head has one digit, which may as well be the class's "
            "own number: set codes.name = 'identity'"
        )


def same_everywhere(codes: LabelCodes) -> LabelCodes:
    """The codes of process 0, in every process, as sums may differ in their last bits from host to host."""
    if jax.process_count() == 1:
        return codes
    return LabelCodes.of(np.asarray(multihost_utils.broadcast_one_to_all(codes.classes_by_code)))


def _check_same_file(
    source: Source, workdir: pathlib.Path, codes: LabelCodes, space: LabelSpace, names: Sequence[str]
) -> None:
    """Raises ValueError if the file of a config, where it is still there, is not what the run was begun with."""
    if source.says_codes and source.where.exists():
        here = source.codes(space, names, None, 0)
        if here.digest != codes.digest:
            raise ValueError(
                f"config.codes.path: {source.path} leads to other codes than {workdir / FILE}, with which the run has "
                "trained: choose another --workdir"
            )
