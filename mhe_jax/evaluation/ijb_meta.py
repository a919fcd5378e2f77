"""The protocol files of IJB-B and IJB-C as they are passed on with loosely cropped faces.

In `FOLDER/meta`, separated by spaces, without a header:

  ijbc_face_tid_mid.txt         picture, template, media: the frames of one video have one media number
  ijbc_name_5pts_score.txt      picture, x and y of five landmarks, score of the detector; the same pictures in order
  ijbc_template_pair_label.txt  template, template, 1 if they are of one person and 0 if not

and with commas and a header, one line per picture of a template:

  ijbc_1N_gallery_G1.csv, ijbc_1N_gallery_G2.csv, ijbc_1N_probe_mixed.csv   template, subject, more

The galleries of IJB-B are S1 and S2. Templates and media are numbers.
"""

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from mhe_jax.data.dataset import DataError, Pairs

GALLERIES = {"IJBB": ("S1", "S2"), "IJBC": ("G1", "G2")}


@dataclasses.dataclass(frozen=True)
class Faces:
    """N pictures: file names, template and media numbers int64 [N], landmarks float32 [N, 5, 2], scores [N]."""

    names: tuple[str, ...]
    templates: np.ndarray
    medias: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class Subjects:
    """Templates of one gallery, or the probes: rows int64 [T] among all templates, subject numbers int64 [T]."""

    templates: np.ndarray
    subjects: np.ndarray


def read_faces(meta: pathlib.Path, target: str) -> Faces:
    """The pictures of `target`, a key of `GALLERIES`.

    Raises:
      DataError: naming the file and line, if a file is missing or malformed, or the two are of different pictures.
    """
    first, second = (meta / f"{target.lower()}_{name}.txt" for name in ("face_tid_mid", "name_5pts_score"))
    names, numbers = [], []
    for line in _lines(first):
        names.append(line.fields[0])
        numbers.append(_numbers(line, 1, 3, int, "a picture, its template and its media"))
    marks: list[list[float]] = []
    for line in _lines(second):
        there = repr(names[len(marks)]) if len(marks) < len(names) else "no more"
        if repr(line.fields[0]) != there:
            raise DataError(f"{line.where}: the picture is {line.fields[0]!r}, but {first} has {there} in that place")
        marks.append(_numbers(line, 1, 12, float, "a picture, five landmarks x y, and a score"))
    if len(marks) < len(names):
        raise DataError(f"{second} ends after {len(marks)} pictures, but {first} has {len(names)}")
    templates, medias = np.array(numbers, np.int64).T
    values = np.array(marks, np.float32)
    return Faces(tuple(names), templates, medias, values[:, :10].reshape(-1, 5, 2), values[:, 10])


def read_template_pairs(meta: pathlib.Path, target: str, templates: np.ndarray) -> Pairs:
    """The pairs of the 1:1 protocol, as rows of the sorted numbers `templates`, int64 [T].

    Raises:
      DataError: naming the file and line, if it is missing or malformed, or a template has no picture.
    """
    path = meta / f"{target.lower()}_template_pair_label.txt"
    # IJB-C has 15 million lines: all are read at once, and one by one only to tell which is wrong.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            columns = np.loadtxt(path, np.int64, comments=None, ndmin=2, encoding="utf-8-sig")
        if columns.shape[1] != 3 or not np.isin(columns[:, 2], (0, 1)).all():
            raise ValueError("a line is not of three numbers, or a label not of 0 and 1")
        first, second = (_rows(templates, columns[:, side]).astype(np.int32) for side in (0, 1))
    except (ValueError, OSError, Warning) as error:
        known = set(templates.tolist())
        for line in _lines(path):
            one, other, label = _numbers(line, 0, 3, int, "two templates and a label")
            if label not in (0, 1):
                raise DataError(
                    f"{line.where}: the label is {label}; it must be 1 for one person and 0 for two"
                ) from None
            for template in (one, other):
                if template not in known:
                    raise DataError(f"{line.where}: template {template} has no picture") from None
        raise DataError(f"{path} cannot be read: {error}") from error
    return Pairs(target.lower(), first, second, columns[:, 2] == 1)


def read_searches(
    meta: pathlib.Path, target: str, templates: np.ndarray
) -> tuple[dict[str, Subjects], Subjects] | None:
    """The galleries by name and the probes of the 1:N protocol; None if no file of it is there.

    Raises:
      DataError: naming the file and line, if one is missing or malformed, or a template has no picture or two subjects.
    """
    stem = f"{target.lower()}_1N_"
    paths = {name: meta / f"{stem}gallery_{name}.csv" for name in GALLERIES[target]}
    probes = meta / f"{stem}probe_mixed.csv"
    if not any(path.exists() for path in (*paths.values(), probes)):
        return None
    return {name: _read_subjects(path, templates) for name, path in paths.items()}, _read_subjects(probes, templates)


def _read_subjects(path: pathlib.Path, templates: np.ndarray) -> Subjects:
    known, subjects = set(templates.tolist()), dict[int, int]()
    for index, line in enumerate(_lines(path, ",")):
        if index == 0 and not line.fields[0].isdecimal():
            continue  # the header, which some copies lack
        template, subject = map(int, _numbers(line, 0, 2, int, "a template and its subject", more=True))
        if subjects.setdefault(template, subject) != subject:
            raise DataError(
                f"{line.where}: template {template} is of subject {subject}, but of {subjects[template]} above"
            )
        if template not in known:
            raise DataError(f"{line.where}: template {template} has no picture")
    if not subjects:
        raise DataError(f"{path} has no templates")
    return Subjects(np.searchsorted(templates, list(subjects)), np.array(list(subjects.values()), np.int64))


def _rows(templates: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The places of `wanted` in the sorted numbers `templates`; raises ValueError if one is not there."""
    rows = np.minimum(np.searchsorted(templates, wanted), len(templates) - 1)
    if (templates[rows] != wanted).any():
        raise ValueError("a template has no picture")
    return rows


class _Line(NamedTuple):
    """`where` is file:line, for messages."""

    where: str
    fields: list[str]


def _lines(path: pathlib.Path, separator: str | None = None) -> Iterator[_Line]:
    """The lines that are not blank; raises DataError if the file cannot be read or has none."""
    found = False
    try:
        # What is not UTF-8 becomes an error of the field that it stands in.
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    found = True
                    yield _Line(f"{path}:{number}", line.strip().split(separator))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not found:
        raise DataError(f"{path} is empty")


def _numbers(
    line: _Line, start: int, count: int, kind: Callable[[str], float], meaning: str, more: bool = False
) -> list[float]:
    """Fields `start` to `count`, the last ones unless there may be `more`.

    Raises:
      DataError: if there are others, or one is not a finite number that 64 bits hold.
    """
    try:
        values = [kind(field) for field in line.fields[start:count]]
    except ValueError:
        values = []
    fits = len(line.fields) >= count if more else len(line.fields) == count
    if not (fits and values and all(abs(value) < 2**63 for value in values)):
        raise DataError(f"{line.where}: {' '.join(line.fields)!r} is not {meaning}")
    return values
