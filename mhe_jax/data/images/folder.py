"""Pictures in class folders, `train/<class>/*.jpg` and `val/<class>/*.jpg`: ImageNet, Omniglot and users' own."""

import dataclasses
import os
import pathlib

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.decode import read_bytes
from mhe_jax.data.images.encoded import EncodedImages
from mhe_jax.data.images.listing import EXTENSIONS, list_folders, list_pictures, tell_left_out

TRAIN_NAMES = ("train",)
EVAL_NAMES = ("val", "validation", "test")


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """The files of one split, `folder/<class>/<file>` or in folders below the class's, in order of class and path.

    Names are kept as bytes in one array: a million Python strings would take minutes to send to worker processes.
    """

    folder: str
    class_names: tuple[str, ...]
    files: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[bytes, int, str]:
        label = int(self.labels[index])
        path = os.path.join(self.folder, self.class_names[label], os.fsdecode(self.files[index]))
        return read_bytes(path), label, path


@dataclasses.dataclass(kw_only=True)
class ImageFolder(EncodedImages):
    """`path` holds train/ and val/ (or validation/, test/); a class is a folder, classes are sorted by name."""

    def sources(self) -> tuple[FolderSource, FolderSource, tuple[str, ...]]:
        train = scan(split_folder(self.path, TRAIN_NAMES))
        evaluate = scan(split_folder(self.path, EVAL_NAMES))
        only = sorted(set(train.class_names) ^ set(evaluate.class_names))
        if only:
            where, other = (train, evaluate) if only[0] in train.class_names else (evaluate, train)
            raise DataError(
                f"{len(only)} class folders are in only one of {train.folder} and {evaluate.folder}: "
                f"{only[0]!r} is in {where.folder} but not in {other.folder}"
            )
        return train, evaluate, train.class_names


@dataclasses.dataclass(kw_only=True)
class ImageNet(ImageFolder):
    """ILSVRC-2012 in torchvision's layout: 1,000 synset folders in train/ and in val/."""

    num_classes: int = 1000


def split_folder(path: str, names: tuple[str, ...]) -> pathlib.Path:
    """The first of `names` that is a folder in `path`."""
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"config.data.path is {path!r}, which is not a folder")
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root} holds no {' or '.join(name + '/' for name in names)} folder with a folder for each class")


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
