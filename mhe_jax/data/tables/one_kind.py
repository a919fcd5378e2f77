"""Labels as files write them: strings or integers, all of a data set of one kind."""

import pathlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import json_type


def require_one_kind(labels: Sequence[Any], numbers: Collection[Any], where: Callable[[], str]) -> None:
    """Raises DataError, beginning with `where()`, unless labels are all strings or integers, as those before them.

    Noughts and ones of other kinds pass, for who reads rows of them.
    """
    kind = type(next(iter(numbers or labels), ""))
    for label in labels:
        if type(label) is not kind or not (kind in (str, int) or (kind in (bool, float) and label in (0, 1))):
            raise DataError(
                f"{where()}: 'labels' holds {label!r}, {json_type(label)}; "
                "all labels must be strings, or all must be integers"
            )


def json_labels(record: dict[str, Any], name: str, path: pathlib.Path, number: int) -> list[Any]:
    """The labels in a field of a line's object: a list of them, or one, a string or an integer.

    Raises:
      DataError: naming the line, if the field is missing or holds anything else.
    """
    if name not in record:
        fields = ", ".join(map(repr, record)) or "none"
        raise DataError(f"{path}:{number}: the field {name!r} is missing (there are: {fields})")
    value = record[name]
    if isinstance(value, list):
        return value
    if type(value) in (str, int):
        return [value]
    raise DataError(
        f"{path}:{number}: the field {name!r} must be a list of labels, or one label, but is {json_type(value)}"
    )
