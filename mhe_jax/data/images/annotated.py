"""Pictures of all classes in one folder, and their classes in a file beside it, as Tiny-ImageNet has its val/."""

import os
import pathlib
import warnings
from collections.abc import Sequence

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.folder_source import FolderSource
from mhe_jax.data.images.listing import list_pictures, tell_left_out
from mhe_jax.data.lines import read_lines
from mhe_jax.data.names import look_alike

ANNOTATIONS, PICTURES = "val_annotations.txt", "images"


def is_annotated(folder: pathlib.Path) -> bool:
    """Whether a split's pictures are in `images`, and their classes in `val_annotations.txt`."""
    return (folder / ANNOTATIONS).is_file() and (folder / PICTURES).is_dir()


def read_annotated(folder: pathlib.Path, class_names: Sequence[str]) -> FolderSource:
    """The pictures of a split that `is_annotated`.

    A line is the picture, a tab, its class, and perhaps more, such as the corners of a box. Pictures without a line are
    left out, with a warning that counts them.

    Args:
      folder: of the split.
      class_names: of training, sorted.

    Raises:
      DataError: naming the line, for one of another form, a picture that is not there or has a line already, and a
        class that is not one of training; or if there is no line at all.
    """
    path = folder / ANNOTATIONS
    pictures, left_out = list_pictures(folder / PICTURES)
    tell_left_out(folder / PICTURES, left_out)
    there, places = set(pictures), {name: place for place, name in enumerate(class_names)}
    labels: dict[bytes, int] = {}
    missing: list[tuple[int, str]] = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        name, _, rest = line.partition("\t")
        class_name = rest.partition("\t")[0].strip()
        if not name or not class_name:
            raise DataError(f"{path}:{number}: a line must be a picture, a tab and its class, but is {line[:80]!r}")
        if class_name not in places:
            raise DataError(
                f"{path}:{number}: the class {class_name!r} is none of training's{look_alike(class_name, class_names)}"
            )
        file = os.fsencode(name)
        if file in labels:
            raise DataError(f"{path}:{number}: the picture {name} has a line already")
        labels[file] = places[class_name]
        if file not in there:
            missing.append((number, name))
    if missing:
        number, name = missing[0]
        more = f" ({len(missing)} of {len(labels)} pictures are missing)" if len(missing) > 1 else ""
        raise DataError(f"{path}:{number}: the picture {name} is not in {folder / PICTURES}{more}")
    if not labels:
        raise DataError(f"{path} names no picture")
    if without := sorted(there - labels.keys()):
        warnings.warn(
            f"{folder / PICTURES}: {len(without)} of {len(there)} pictures have no line in {ANNOTATIONS} and are left "
            f"out: {os.fsdecode(without[0])!r}",
            stacklevel=2,
        )
    files = sorted(labels, key=lambda file: (labels[file], file))
    found = np.array([labels[file] for file in files], np.int32)
    return FolderSource(str(folder), tuple(class_names), np.array(files), found, together=PICTURES)
