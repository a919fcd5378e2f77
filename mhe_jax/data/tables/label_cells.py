"""The labels of one cell of a table: a list, several with a separator, or one."""

import ast
import contextlib
import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from mhe_jax.data.dataset import DataError

_SEPARATORS = ";|"
_ONES = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
# Of Python a list of strings and numbers alone: in 'a' 'b', as numpy prints arrays, no comma stands between two labels.
_ITEM = r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|-?\d+(?:\.\d+)?|True|False)"""
_PYTHON = re.compile(rf"\[\s*(?:{_ITEM}(?:\s*,\s*{_ITEM})*+\s*,?\s*)?\]", re.DOTALL)
_MISSING = -1  # of a class's number, in the data sets of the Hugging Face hub


@dataclasses.dataclass(frozen=True)
class Cells:
    """How cells hold labels.

    separator: what stands between labels; empty where a cell holds one, or a list.
    lists: whether cells are lists in the notation of JSON or Python.
    given: whether a config says what the separator is; then nothing else is one.
    """

    separator: str = ""
    lists: bool = False
    given: bool = False

    @classmethod
    def found(cls, sample: Sequence[Any], separator: str, file: pathlib.Path) -> "Cells":
        """What some cells of a file look like.

        Raises:
          DataError: if that is not clear.
        """
        if separator:
            return cls(separator, given=True)
        cells = [cell.strip() for cell in sample if isinstance(cell, str) and cell.strip()]
        lists = [cell for cell in cells if _is_list(cell)]
        inside = [one for one in _SEPARATORS if any(one in cell for cell in cells)]
        if lists and len(lists) == len(cells):
            return cls(lists=True)
        if lists or len(inside) > 1:
            shown = next(cell for cell in cells if _is_list(cell) or any(one in cell for one in inside))
            raise DataError(
                f"{file}: what separates labels is not clear, as in {shown[:80]!r}: say it in "
                "config.data.label_separator"
            )
        commas = [cell for cell in cells if "," in cell]
        if not inside and 2 * len(commas) > len(cells):
            raise DataError(
                f"{file}: cells like {commas[0][:80]!r} may be one label or several: set "
                "config.data.label_separator to ',', or, for one label, to ';'"
            )
        return cls("".join(inside))

    def labels(self, cell: Any, where: Callable[[], str]) -> list[Any]:
        """The labels of a cell, those listed again included.

        Args:
          cell: a string, a number, None, or a list of strings or numbers.
          where: says where it is, for messages.

        Raises:
          DataError: if it is not what the first cells were.
        """
        if cell is None:
            return []
        if isinstance(cell, list):
            if self.given:
                raise DataError(f"{where()}: config.data.label_separator is {self.separator!r}, but here is a list")
            return cell
        if not isinstance(cell, str):
            return [] if type(cell) is int and cell == _MISSING else [cell]
        cell = cell.strip()
        if not self.given and cell:
            self._check(cell, where)
        if self.lists:
            return _parsed(cell, where) if cell else []
        parts = cell.split(self.separator) if self.separator else [cell]
        return [label for part in parts if (label := part.strip())]

    def _check(self, cell: str, where: Callable[[], str]) -> None:
        """What looks like several labels must have done so in the first cells too."""
        other = "" if self.lists else next((one for one in _SEPARATORS if one in cell and one != self.separator), "")
        if _is_list(cell) != self.lists or other:
            before = "lists" if self.lists else self.told()
            raise DataError(
                f"{where()}: {cell[:80]!r} is not like the cells of labels before it ({before}): write all in one way, "
                "or say in config.data.label_separator what separates labels"
            )

    def told(self) -> str:
        """The same for people."""
        return f"separated by {self.separator!r}" if self.separator else "lists" if self.lists else "one a cell"


def looks_like_ones(values: Sequence[Any]) -> bool:
    """Whether a column holds noughts and ones alone, and what is not empty is not nothing."""
    there = [str(value).strip().casefold() for value in values if not _is_empty(value)]
    return bool(there) and all(value in _ONES for value in there)


def set_columns(values: Sequence[Any], names: Sequence[str], where: Callable[[], str]) -> list[str]:
    """The names of the columns that hold a one; of a row of empty cells, none.

    Raises:
      DataError: for a cell that is neither nought nor one.
    """
    if all(map(_is_empty, values)):
        return []
    found = []
    for name, value in zip(names, values, strict=True):
        one = _ONES.get(str(value).strip().casefold())
        if one is None:
            raise DataError(
                f"{where()}: column {name!r} holds {str(value)[:80]!r}, where columns of labels hold 0 or 1; name "
                "these in config.data.label_column if it is none"
            )
        if one:
            found.append(name)
    return found


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_list(cell: str) -> bool:
    return cell.startswith("[") and cell.endswith("]")


def _parsed(cell: str, where: Callable[[], str]) -> list[Any]:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(cell)
    # It may still have numbers of too many digits.
    with contextlib.suppress(ValueError, SyntaxError, MemoryError):
        if _PYTHON.fullmatch(cell):
            return ast.literal_eval(cell)
    raise DataError(f"{where()}: {cell[:80]!r} is not a list in the notation of JSON or Python")
