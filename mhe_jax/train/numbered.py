"""A loaded data set whose labels are the ids of a run's classes, whatever order the data has them in."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.codes.relabel import relabelled
from mhe_jax.data.build import Data
from mhe_jax.data.dataset import DataError, PairedSplit
from mhe_jax.data.known_labels import known_labels
from mhe_jax.labels import LabelCodes
from mhe_jax.train.classes import UNTRAINED, Classes, check_same


def numbered(workdir: pathlib.Path, classes: Classes, data: Data, splits: Any) -> Any:
    """What `data.load()` returned, with the run's ids as labels, and the run's number of classes in `data`.

    A run that keeps no list of its own takes the data as it is, or refuses it. Labels of retired classes are left out
    of rows with many labels.

    Raises:
      ValueError: if the data lacks a class, has others, or has examples of a retired one.
    """
    if not classes.is_kept:
        check_same(workdir, classes, splits.class_names)
        return splits
    return by(numbering_of(workdir, classes, splits.class_names, data.num_classes), classes, workdir, data, splits)


def numbering_of(workdir: pathlib.Path, classes: Classes, names: Sequence[str], number: int) -> LabelCodes:
    """How a run that keeps a list of its classes numbers those of some data, by their names.

    Raises:
      ValueError: if the data lacks a class, or has others.
    """
    numbering, new = classes.numbering(names, number, str(workdir))
    if new:
        raise DataError(
            f"the data has {len(new)} classes that {workdir} does not know, such as {new[0]!r}: "
            f"`mhe extend {workdir} --data=...` takes them in"
        )
    return numbering


def by(numbering: LabelCodes, classes: Classes, workdir: pathlib.Path, data: Data, splits: Any) -> Any:
    """The splits with the ids of `classes` as labels, which `numbering` gives the data's."""
    retired = np.isin(np.arange(classes.number), classes.retired)
    require_none(splits, numbering.codes, retired, classes, f"is retired in {workdir}: take its examples out")
    data.num_classes = classes.number
    found = relabelled(splits, without_retired(numbering, classes))
    return dataclasses.replace(found, class_names=classes.all_names)


def without_retired(numbering: LabelCodes, classes: Classes) -> LabelCodes:
    """The numbering of a run's data by which rows with many labels go without those of retired classes."""
    kept = numbering.classes_by_code.copy()
    kept[list(classes.retired)] = -1
    return LabelCodes.placed(kept, numbering.num_classes)


def require_trained(workdir: pathlib.Path, classes: Classes, codes: LabelCodes, splits: Any) -> None:
    """Raises DataError if there are examples of classes that a run has been extended by and has not trained on."""
    say = f"is new in {workdir}, which has not trained on it yet: mhe train --workdir={workdir}"
    require_none(splits, lambda labels: labels, classes.states(codes) == UNTRAINED, classes, say)


def require_none(splits: Any, ids_of: Any, which: np.ndarray, classes: Classes, say: str) -> None:
    """Raises DataError if an example with one label is of one of the classes `which`, bool [C]."""
    if not which.any():
        return
    for split in (splits.train, splits.eval, splits.test):
        if split is None or isinstance(split, PairedSplit):
            continue
        labels = known_labels(split)
        if labels is None or scipy.sparse.issparse(labels):
            continue
        found = ids_of(labels)
        hit = np.flatnonzero((found >= 0) & which[np.maximum(found, 0)])
        if len(hit):
            raise DataError(f"the class {classes.name(int(found[hit[0]]))!r} {say}")
