"""Pictures in class folders, `train/<class>/*.jpg` and `val/<class>/*.jpg`: ImageNet, Omniglot and users' own."""

import dataclasses
import hashlib
import os
import pathlib
import warnings

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.annotated import is_annotated, read_annotated
from mhe_jax.data.images.encoded import EncodedImages
from mhe_jax.data.images.folder_source import FolderSource
from mhe_jax.data.images.listing import EXTENSIONS, list_folders, list_pictures, tell_left_out
from mhe_jax.data.names import look_alike

TRAIN_NAMES = ("train",)
EVAL_NAMES = ("val", "valid", "validation", "test")


@dataclasses.dataclass(kw_only=True)
class ImageFolder(EncodedImages):
    """`path` holds train/ and val/ (or valid/, validation/, test/); a class is a folder, classes are sorted by name.

    val/ may also have all its pictures in val/images/, and their classes in val/val_annotations.txt.

    valid_share: share of the pictures that are held out of training and evaluated, where there is no val/ or the like;
      `path` may then be the folder of the classes itself. The choice is by name, and stays as others are added.
    """

    valid_share: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.valid_share < 1:
            raise ValueError(f"config.data.valid_share is {self.valid_share}; it must be at least 0 and below 1")

    def sources(self) -> tuple[FolderSource, FolderSource, tuple[str, ...]]:
        if self.valid_share:
            return self._held_out()
        train = scan(split_folder(self.path, TRAIN_NAMES))
        folder = split_folder(self.path, EVAL_NAMES, "; or set config.data.valid_share to hold out pictures")
        read = read_annotated if is_annotated(folder) else _scan_as
        evaluate = read(folder, train.class_names)
        without = np.flatnonzero(np.bincount(evaluate.labels, minlength=len(train.class_names)) == 0)
        if len(without):
            some = ", ".join(repr(train.class_names[place]) for place in without[:3])
            warnings.warn(
                f"{folder}: {len(without)} of {len(train.class_names)} classes have no pictures to evaluate: "
                f"{some}{', ...' if len(without) > 3 else ''}",
                stacklevel=2,
            )
        return train, evaluate, train.class_names

    def _held_out(self) -> tuple[FolderSource, FolderSource, tuple[str, ...]]:
        root = pathlib.Path(self.path).expanduser()
        there = [name for name in EVAL_NAMES if (root / name).is_dir()]
        if there:
            found = root / there[0]
            raise DataError(f"config.data.valid_share is {self.valid_share}, but {found} is there: set it to 0")
        flat = root.is_dir() and not (root / TRAIN_NAMES[0]).is_dir()
        train = scan(root if flat else split_folder(self.path, TRAIN_NAMES))
        out = held_out(train, self.valid_share)
        if not out.any():
            raise DataError(f"{train.folder}: no class has two pictures, of which config.data.valid_share takes one")
        kept, evaluate = (
            dataclasses.replace(train, files=train.files[rows], labels=train.labels[rows]) for rows in (~out, out)
        )
        return kept, evaluate, train.class_names


@dataclasses.dataclass(kw_only=True)
class ImageNet(ImageFolder):
    """ILSVRC-2012 in torchvision's layout: 1,000 synset folders in train/ and in val/."""

    num_classes: int = 1000


def split_folder(path: str, names: tuple[str, ...], otherwise: str = "") -> pathlib.Path:
    """The first of `names` that is a folder in `path`; `otherwise` ends the message where there is none."""
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"config.data.path is {path!r}, which is not a folder")
    for name in names:
        if (root / name).is_dir():
            return root / name
    folders = " or ".join(f"{name}/" for name in names)
    raise DataError(f"{root} holds no {folders} folder with a folder for each class{otherwise}")


def _scan_as(folder: pathlib.Path, class_names: tuple[str, ...]) -> FolderSource:
    """As `scan`, with labels for the given classes, which are sorted; raises DataError for a folder of another one."""
    found = scan(folder)
    only = sorted(set(found.class_names) - set(class_names))
    if only:
        train = folder.parent / TRAIN_NAMES[0]
        raise DataError(
            f"{len(only)} class folders of {folder} are not in {train}: {only[0]!r} is not"
            f"{look_alike(only[0], class_names)}"
        )
    places = np.searchsorted(class_names, found.class_names).astype(np.int32)
    return dataclasses.replace(found, class_names=class_names, labels=places[found.labels])


def held_out(source: FolderSource, share: float) -> np.ndarray:
    """bool [N]: about a share of the pictures, by a hash of their names; of each class one at least, and never all."""
    names = zip(source.labels.tolist(), source.files.tolist(), strict=True)
    places = np.array([_place(source.class_names[label], file) for label, file in names])
    out = places < share
    for rows in np.split(np.arange(len(source)), np.flatnonzero(np.diff(source.labels)) + 1):
        order = rows[np.argsort(places[rows])]
        out[order[0]], out[order[-1]] = True, False  # of one picture the latter
    return out


def _place(class_name: str, file: bytes) -> float:
    """A number of [0, 1) that a picture has by its name."""
    digest = hashlib.blake2b(os.fsencode(class_name) + b"/" + file, digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


def scan(folder: pathlib.Path) -> FolderSource:
    """Lists a split; raises DataError if it has no class folder, or a class folder has no picture.

    What is hidden or a system's is left out, with a warning that counts it.
    """
    class_names, left_out = list_folders(folder)
    if not class_names:
        raise DataError(f"{folder} has no class folders: pictures belong in {folder}/<class>/")
    files: list[bytes] = []
    counts = []
    for name in class_names:
        found, others = list_pictures(folder / name)
        if not found:
            raise DataError(f"{folder / name} holds no picture ({', '.join(EXTENSIONS)}): remove the folder or fill it")
        files += found
        counts.append(len(found))
        left_out += [os.path.join(name, other) for other in others]
    tell_left_out(folder, left_out)
    labels = np.repeat(np.arange(len(class_names), dtype=np.int32), counts)
    return FolderSource(str(folder), tuple(class_names), np.array(files), labels)
