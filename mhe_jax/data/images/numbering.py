"""From labels as files write them, integers or words, to the numbers and names of classes."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.names import look_alike

_INTEGER = re.compile(r"-?[0-9]+")


class Written(NamedTuple):
    """The labels of a split.

    values: int64 or str [N]; of the kind 'integers' either. kind: 'integers', 'strings', or 'text': integers where all
      labels of all splits are.
    where: names example i in messages.
    """

    values: np.ndarray
    kind: str
    where: Callable[[int], str]


def numbered(
    splits: Sequence[Written], names: Sequence[str], named_by: str
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """(class names, the classes int32 [N] of each split), of which the first one is that of training.

    Integers are places among `names`, if there are any, and words are some of them. Without names, classes are what
    training's labels are, in the order of numbers or of words; no integer is negative, as -1 mostly stands for none.

    Args:
      splits: training, and perhaps evaluation.
      names: of all classes, or empty.
      named_by: the file that names come from.

    Raises:
      DataError: for splits of different kinds, a label that is no class, negative or too large, and a name twice.
    """
    kinds = {split.kind for split in splits}
    if len(kinds) > 1:
        raise DataError(
            f"{splits[0].where(0)} has {splits[0].kind} as labels, but {splits[1].where(0)} {splits[1].kind}"
        )
    if kinds == {"integers"} or (kinds == {"text"} and all(map(_holds_integers, splits))):
        splits = [split._replace(values=_integers(split)) for split in splits]
    of_numbers = splits[0].values.dtype.kind == "i"
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DataError(f"{named_by}: two classes are named {twice!r}")
    if of_numbers and names:
        for split in splits:
            wrong = np.flatnonzero((split.values < 0) | (split.values >= len(names)))
            if len(wrong):
                raise DataError(
                    f"{split.where(wrong[0])}: the label {split.values[wrong[0]]} is none of 0 .. {len(names) - 1}, "
                    f"which {named_by} names"
                )
        return tuple(names), [split.values.astype(np.int32) for split in splits]
    for split in splits if of_numbers else ():
        wrong = np.flatnonzero(split.values < 0)
        if len(wrong):
            raise DataError(f"{split.where(wrong[0])}: the label {split.values[wrong[0]]} is negative")
    classes = np.array(names) if names else np.unique(splits[0].values)
    found, order = [], np.argsort(classes, kind="stable")
    for split in splits:
        places = np.minimum(np.searchsorted(classes, split.values, sorter=order), len(classes) - 1)
        wrong = np.flatnonzero(classes[order[places]] != split.values)
        if len(wrong):
            value = split.values[wrong[0]].item()
            hint = "" if of_numbers else look_alike(value, map(str, classes))
            whose = named_by if names else "training's"
            raise DataError(f"{split.where(wrong[0])}: the class {value!r} is none of {whose}{hint}")
        found.append(order[places].astype(np.int32))
    return tuple(map(str, classes.tolist())), found


def _holds_integers(split: Written) -> bool:
    return split.values.size > 0 and all(map(_INTEGER.fullmatch, set(split.values.tolist())))


def _integers(split: Written) -> np.ndarray:
    """The labels as int64 [N]."""
    try:
        return split.values.astype(np.int64)
    except OverflowError:
        bounds = np.iinfo(np.int64)
        wrong = next(i for i, value in enumerate(split.values) if not bounds.min <= int(value) <= bounds.max)
        raise DataError(f"{split.where(wrong)}: the label {split.values[wrong][:40]} is too large") from None
