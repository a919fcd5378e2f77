"""A folder of pictures of people, each turned into the upright face in it, as face models want them."""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import tqdm

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.faces.alignment import align
from mhe_jax.data.images.decode import decode, read_bytes
from mhe_jax.data.images.listing import list_pictures, tell_left_out
from mhe_jax.data.lines import read_lines

# Given the picture's path in its folder and its pixels, uint8 [h, w, 3]: landmarks [5, 2] as `align` takes them, or
# None where there is no face.
FindLandmarks = Callable[[str, np.ndarray], np.ndarray | None]

_RECORD = ".align.json"  # in the folder of faces


class Outcome(NamedTuple):
    """How many faces were written or there already, and a line for each picture without one."""

    faces: int
    left_out: list[str]


def align_folder(
    source: pathlib.Path,
    dest: pathlib.Path,
    landmarks_of: FindLandmarks,
    size: int,
    known: Mapping[str, np.ndarray] | None = None,
) -> Outcome:
    """Writes the aligned face of each picture in a folder as a PNG of the same place and name; those there are kept.

    Args:
      source: the folder of pictures.
      dest: the folder of faces, outside of it.
      landmarks_of: of a picture.
      size: pixels per side of a face.
      known: all that `landmarks_of` knows; None if it searches for faces.

    Raises:
      DataError: if there is no picture, or two differ in the ending alone, or `dest` lies in `source` or has faces of
        another size or by other landmarks.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder")
    if dest.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{dest} lies in {source}, whose pictures are read: faces must have a folder outside of it")
    found, strays = list_pictures(source)
    tell_left_out(source, strays)
    names = [os.fsdecode(name) for name in found]
    if not names:
        raise DataError(f"{source} holds no picture")
    targets: dict[pathlib.Path, str] = {}
    for name in names:
        target = (dest / name).with_suffix(".png")
        if target in targets:
            raise DataError(f"{source}: {targets[target]} and {name} would both become {target}")
        targets[target] = name
    _remember(dest, targets, size, known)
    left_out, faces = [], 0
    for target, name in tqdm.tqdm(targets.items(), f"aligning {source}", disable=None, leave=False):
        if not target.is_file():
            try:
                _write(target, _aligned(source / name, name, landmarks_of, size))
            except BadExample as error:
                left_out.append(str(error))
                continue
        faces += 1
    return Outcome(faces, left_out)


def _remember(
    dest: pathlib.Path, targets: Mapping[pathlib.Path, str], size: int, known: Mapping[str, np.ndarray] | None
) -> None:
    """Keeps the size and a digest of each picture's landmarks, and compares those of the faces that are there."""
    path = dest / _RECORD
    found: dict[str, str] = {}
    if known is not None:
        found = {name: hashlib.sha256(points.tobytes()).hexdigest()[:12] for name, points in known.items()}
    if path.is_file():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            old_size, searched, old = record["size"], record["searched"], dict(record["landmarks"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged; remove it and the faces beside it") from error
        there = [name for target, name in targets.items() if target.is_file()]
        if there and old_size != size:
            raise DataError(f"{dest} has faces of {old_size}x{old_size}, but --size is {size}: take another folder")
        if there and searched != (known is None):
            how = "by a search for faces" if searched else "by --landmarks"
            raise DataError(f"{dest} has faces that were made {how}: take another folder")
        for name in there:
            if old.get(name, "") != found.get(name, old.get(name, "")):
                raise DataError(f"{dest} has a face of {name} by other landmarks: take another folder")
        found = {**old, **found}
    dest.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    record = {"size": size, "searched": known is None, "landmarks": found}
    partial.write_text(json.dumps(record), encoding="utf-8")
    partial.replace(path)


def _aligned(path: pathlib.Path, name: str, landmarks_of: FindLandmarks, size: int) -> np.ndarray:
    image = decode(read_bytes(path), 3, str(path))
    landmarks = landmarks_of(name, image)
    if landmarks is None:
        raise BadExample(f"{path}: no face is known in it")
    try:
        return align(image, landmarks, size)
    except ValueError as error:
        raise BadExample(f"{path}: {error}") from error


def _write(target: pathlib.Path, face: np.ndarray) -> None:
    """All of a file or none of it, so that an interrupted command goes on when it is given again."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}")
    done, encoded = cv2.imencode(".png", cv2.cvtColor(face, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"{target} cannot be encoded")
    partial.write_bytes(encoded.tobytes())
    partial.replace(target)


def read_landmarks(path: pathlib.Path) -> Mapping[str, np.ndarray]:
    """Landmarks by picture, float64 [5, 2], of lines `picture x y x y x y x y x y`, see `align`.

    The two lines that the file of CelebA begins with, a number and the names of columns, are passed over.

    Raises:
      DataError: naming the line, for one of another form and a picture that has a line already.
    """
    found: dict[str, np.ndarray] = {}
    header = 0  # lines
    for number, line in enumerate(read_lines(path), 1):
        words = line.rsplit(maxsplit=10)
        if number == 1 and len(words) == 1 and words[0].isdigit():
            header = 2
        if not words or number <= header:
            continue
        try:
            points = np.array([float(word) for word in words[1:]])
        except ValueError:
            points = np.empty(0)
        if points.shape != (10,) or not np.isfinite(points).all():
            raise DataError(f"{path}:{number}: a line must be a picture and ten numbers, but is {line[:80]!r}")
        if words[0] in found:
            raise DataError(f"{path}:{number}: the picture {words[0]} has a line already")
        found[words[0]] = points.reshape(5, 2)
    if not found:
        raise DataError(f"{path} names no picture")
    return found
