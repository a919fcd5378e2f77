"""Pictures and their classes, in folders `train/<class>/*.jpg`, in tar shards, in Parquet or in Arrow files."""

import dataclasses
import hashlib
import os
import pathlib
import warnings
from collections.abc import Iterable

import numpy as np

from mhe_jax.data.dataset import DataError, require_one_of
from mhe_jax.data.images.annotated import is_annotated, read_annotated
from mhe_jax.data.images.encoded import EncodedImages
from mhe_jax.data.images.file_sources import FileSource, open_files, tell_large_groups
from mhe_jax.data.images.folder_source import FolderSource
from mhe_jax.data.images.layouts import EVAL_NAMES, LAYOUTS, TRAIN_NAMES, Files, find_files, snapshot
from mhe_jax.data.images.listing import EXTENSIONS, list_folders, list_pictures, tell_left_out
from mhe_jax.data.names import look_alike
from mhe_jax.data.stores import is_remote

Pictures = FolderSource | FileSource


@dataclasses.dataclass(kw_only=True)
class ImageFolder(EncodedImages):
    """Pictures and their classes, at `path`, in one of several layouts; classes are sorted by name.

    Class folders: train/ and val/ (or valid/, validation/, test/) hold a folder for each class. val/ may also have all
    its pictures in val/images/, and their classes in val/val_annotations.txt.

    Tar shards, Parquet and Arrow files: in `path`, `path`/data or a folder for each split, or those of a pattern such
    as `DIR/train-{000..146}.tar`. A path with `://` is one of a store, read by fsspec.

    layout: 'folders', 'tar', 'parquet' or 'arrow'; 'auto' is what is there.
    image_key: the column with the pictures, or the extension of those in tar shards; '' is the usual one.
    label_key: the column with the labels, or the field of `key.json`; '' is the usual one.
    valid_share: share of the pictures that are held out of training and evaluated, where there is no val/ or the like;
      `path` may then be the folder of the classes itself. The choice is by name, and stays as others are added.
    """

    layout: str = "auto"
    image_key: str = ""
    label_key: str = ""
    valid_share: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        require_one_of("layout", self.layout, LAYOUTS)
        if not 0 <= self.valid_share < 1:
            raise ValueError(f"config.data.valid_share is {self.valid_share}; it must be at least 0 and below 1")

    def sources(self) -> tuple[Pictures, Pictures, tuple[str, ...]]:
        files = find_files(self.path, self.layout)
        if files is not None:
            return self._of_files(files)
        if is_remote(self.path):
            raise DataError(f"{self.path} holds neither .tar nor .parquet files; class folders must lie on a disk")
        require_no_keys(self.path, self.image_key, self.label_key)
        root = snapshot(self.path)
        return self._held_out(root) if self.valid_share else self._of_folders(root)

    def _of_files(self, files: Files) -> tuple[Pictures, Pictures, tuple[str, ...]]:
        train, evaluate = open_files(files, self.image_key, self.label_key)
        if self.streamed:
            tell_large_groups(train)
        if evaluate is None:
            if not self.valid_share:
                names = ", ".join(EVAL_NAMES)
                raise DataError(
                    f"{self.path}: no file has one of {names} in its name; or set config.data.valid_share to hold out "
                    "pictures"
                )
            return *part(train, self.valid_share, files.root), train.class_names
        if self.valid_share:
            raise DataError(
                f"config.data.valid_share is {self.valid_share}, but {files.evaluate[0]} is there: set it to 0"
            )
        tell_unevaluated(evaluate, files.root)
        return train, evaluate, train.class_names

    def _of_folders(self, path: str) -> tuple[FolderSource, FolderSource, tuple[str, ...]]:
        train = scan(split_folder(path, TRAIN_NAMES))
        folder = split_folder(path, EVAL_NAMES, "; or set config.data.valid_share to hold out pictures")
        read = read_annotated if is_annotated(folder) else _scan_as
        evaluate = read(folder, train.class_names)
        tell_unevaluated(evaluate, folder)
        return train, evaluate, train.class_names

    def _held_out(self, path: str) -> tuple[Pictures, Pictures, tuple[str, ...]]:
        root = pathlib.Path(path).expanduser()
        there = [name for name in EVAL_NAMES if (root / name).is_dir()]
        if there:
            found = root / there[0]
            raise DataError(f"config.data.valid_share is {self.valid_share}, but {found} is there: set it to 0")
        flat = root.is_dir() and not (root / TRAIN_NAMES[0]).is_dir()
        train = scan(root if flat else split_folder(path, TRAIN_NAMES))
        return *part(train, self.valid_share, train.folder), train.class_names


@dataclasses.dataclass(kw_only=True)
class ImageNet(ImageFolder):
    """ILSVRC-2012 in torchvision's layout: 1,000 synset folders in train/ and in val/."""

    num_classes: int = 1000


def require_no_keys(path: str, image_key: str, label_key: str) -> None:
    """Raises DataError if pictures or labels have names of columns where there are class folders."""
    for field, asked in (("image_key", image_key), ("label_key", label_key)):
        if asked:
            raise DataError(f"config.data.{field} is {asked!r}, but {path} holds class folders")


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


def tell_unevaluated(evaluate: Pictures, where: object) -> None:
    """Warns of classes without a picture to evaluate."""
    names = evaluate.class_names
    without = np.flatnonzero(np.bincount(evaluate.labels, minlength=len(names)) == 0)
    if len(without):
        some = ", ".join(repr(names[place]) for place in without[:3])
        warnings.warn(
            f"{where}: {len(without)} of {len(names)} classes have no pictures to evaluate: "
            f"{some}{', ...' if len(without) > 3 else ''}",
            stacklevel=3,
        )


def part(source: Pictures, share: float, where: object) -> tuple[Pictures, Pictures]:
    """The pictures to train on, and those held out; DataError if no class has two."""
    out = held_out([source.name(index) for index in range(len(source))], source.labels, share)
    if not out.any():
        raise DataError(f"{where}: no class has two pictures, of which config.data.valid_share takes one")
    return source.take(~out), source.take(out)


def held_out(names: Iterable[bytes], labels: np.ndarray, share: float) -> np.ndarray:
    """bool [N]: about a share of the pictures, by a hash of their names; of each class one at least, and never all."""
    places = np.array([*map(place_of, names)])
    out, by_class = places < share, np.argsort(labels, kind="stable")
    for rows in np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1):
        order = rows[np.argsort(places[rows])]
        out[order[0]], out[order[-1]] = True, False  # of one picture the latter
    return out


def place_of(name: bytes) -> float:
    """A number of [0, 1) that a picture has by its name."""
    digest = hashlib.blake2b(name, digest_size=6).digest()
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
