"""Verification pairs in text files: `path path same`, and the pairs.txt of Labeled Faces in the Wild."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import read_lines


@dataclasses.dataclass(frozen=True)
class PairList:
    """Pairs of picture files: distinct paths, int32 [P] `first` and `second` into them, and bool [P] `same`."""

    paths: tuple[str, ...]
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray


def read_pairs(path: str | pathlib.Path, root: str | pathlib.Path) -> PairList:
    """Reads a list of pairs.

    Lines are `path path same` with same 1 or 0, or LFW's `name i j` (two pictures of one person) and
    `name i other j`, where picture i is name/name_000i.jpg; LFW's first line may count the pairs of each kind: `n`, or
    `folds n`. Fields end at spaces, or, for paths with spaces, at tabs or commas. Blank lines are passed over.

    Args:
      path: of the text file.
      root: the folder that paths are relative to.

    Raises:
      DataError: naming file and line, for anything else, or a picture that does not exist.
    """
    path, root = pathlib.Path(path).expanduser(), pathlib.Path(root).expanduser()
    lines = [(number, split_fields(line)) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    counts = _lfw_counts(lines[0][1]) if lines else None
    if counts is not None:
        lines = lines[1:]
    if not lines:
        raise DataError(f"{path} holds no pairs")
    # A path that is only digits names no picture; LFW's second field always is a number.
    as_lfw = counts is not None or (len(lines[0][1]) in (3, 4) and _is_number(lines[0][1][1]))
    entries = list(_lfw_entries(path, lines) if as_lfw else _path_entries(path, lines))
    same = np.array([entry[3] for entry in entries], bool)
    if counts is not None and (int(same.sum()), int((~same).sum())) != (counts, counts):
        raise DataError(
            f"{path}: line 1 announces {counts} pairs of one person and as many of two, "
            f"but there are {same.sum()} and {(~same).sum()}"
        )
    return _existing(path, root, entries, same)


def write_pairs(path: str | pathlib.Path, pairs: Iterable[tuple[str, str, bool]]) -> None:
    """Writes lines `path path same`, for paths without spaces, tabs and commas."""
    lines = (f"{first} {second} {int(same)}\n" for first, second, same in pairs)
    pathlib.Path(path).write_text("".join(lines), encoding="utf-8")


def split_fields(line: str) -> list[str]:
    """The fields of a line, at tabs or else commas if it has any, else at spaces."""
    for separator in ("\t", ","):
        if separator in line:
            return [field.strip() for field in line.split(separator)]
    return line.split()


def _is_number(field: str) -> bool:
    return field.isascii() and field.isdecimal() and len(field) <= 9


def _lfw_counts(fields: list[str]) -> int | None:
    """The pairs of each kind that LFW's first line announces: `n`, or `folds n`."""
    if len(fields) not in (1, 2) or not all(map(_is_number, fields)):
        return None
    return int(np.prod([int(field) for field in fields]))


def _path_entries(path: pathlib.Path, lines: list[tuple[int, list[str]]]) -> Iterator[tuple[int, str, str, bool]]:
    for number, fields in lines:
        if len(fields) != 3 or not all(fields):
            raise DataError(
                f"{path}:{number}: {len(fields)} fields; a line must be `path path same` "
                "(separate by tabs or commas if paths have spaces)"
            )
        if fields[2] not in ("0", "1"):
            raise DataError(f"{path}:{number}: the last field is {fields[2]!r}; it must be 1 (same) or 0 (different)")
        yield number, fields[0], fields[1], fields[2] == "1"


def _lfw_entries(path: pathlib.Path, lines: list[tuple[int, list[str]]]) -> Iterator[tuple[int, str, str, bool]]:
    for number, fields in lines:
        numbers = fields[1:] if len(fields) == 3 else fields[1::2]
        if len(fields) not in (3, 4) or not all(fields) or not all(map(_is_number, numbers)):
            raise DataError(f"{path}:{number}: must be `name i j` or `name i name j`, as in LFW's pairs.txt")
        other = fields[0] if len(fields) == 3 else fields[2]
        first, second = map(int, numbers)
        yield number, _lfw_file(fields[0], first), _lfw_file(other, second), len(fields) == 3


def _lfw_file(name: str, number: int) -> str:
    return f"{name}/{name}_{number:04d}.jpg"


def _existing(
    path: pathlib.Path, root: pathlib.Path, entries: list[tuple[int, str, str, bool]], same: np.ndarray
) -> PairList:
    """Numbers the distinct pictures in the order they are first named in; DataError if one does not exist."""
    places: dict[str, int] = {}
    sides = np.empty((len(entries), 2), np.int32)
    missing: list[tuple[int, str]] = []
    for row, (number, first, second, _) in enumerate(entries):
        for side, name in enumerate((first, second)):
            if name not in places:
                places[name] = len(places)
                if not os.path.isfile(os.path.join(root, name)):
                    missing.append((number, name))
            sides[row, side] = places[name]
    if missing:
        number, name = missing[0]
        more = f" ({len(missing)} of {len(places)} pictures are missing)" if len(missing) > 1 else ""
        raise DataError(f"{path}:{number}: the picture {name} does not exist in {root}{more}")
    paths = tuple(os.path.join(root, name) for name in places)
    return PairList(paths, sides[:, 0].copy(), sides[:, 1].copy(), same)
