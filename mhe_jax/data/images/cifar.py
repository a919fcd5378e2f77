"""CIFAR-10 and CIFAR-100 from the published Python pickles, or as prepared by tensorflow-datasets."""

import dataclasses
import pathlib
from typing import Any, ClassVar

import jax
import numpy as np

from mhe_jax.data import pickles
from mhe_jax.data.dataset import ArraySplit, DataError
from mhe_jax.data.images import augment
from mhe_jax.data.images.dataset import ImageData, Images
from mhe_jax.data.images.encoded import decode_all
from mhe_jax.data.images.examples import LoadExample
from mhe_jax.data.images.tfds import find_prepared, tfds_sources
from mhe_jax.settings import option


@dataclasses.dataclass(kw_only=True)
class Cifar(ImageData):
    """32x32 colour images, padded by 4, cropped and flipped in training.

    path: the folder of the pickles or its parent, as torchvision leaves them, or the data_dir of tensorflow-datasets.
    mean, std: per channel, of pixels in [0, 1]; CIFAR-10's common figures, which the paper uses for CIFAR-100 too.
    """

    path: str = option(free=True)
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2023, 0.1994, 0.2010)

    folder: ClassVar[str]
    archive: ClassVar[str]
    tfds_name: ClassVar[str]
    train_files: ClassVar[tuple[str, ...]]
    eval_files: ClassVar[tuple[str, ...]]
    meta_file: ClassVar[str]
    names_key: ClassVar[str]
    labels_key: ClassVar[str]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (32, 32, 3)

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.mean, self.std

    def load(self) -> Images:
        root = pathlib.Path(self.path).expanduser()
        for folder in (root, root / self.folder):
            if (folder / self.meta_file).is_file():
                return self._load_pickles(folder)
        if (root / self.tfds_name).is_dir():
            return self._load_tfds(find_prepared(self.path, self.tfds_name))
        raise DataError(
            f"{self.path} holds no {self.folder}: run "
            f"curl https://www.cs.toronto.edu/~kriz/{self.archive} | tar xz -C {self.path}, "
            f"or python launch/prepare_tfds.py --dataset {self.tfds_name} --data_dir {self.path}"
        )

    def augment(self, images: jax.Array, key: jax.Array) -> jax.Array:
        crop_key, flip_key = jax.random.split(key)
        return self.normalize(augment.flip(augment.crop_pad(images, crop_key), flip_key))

    def _load_pickles(self, folder: pathlib.Path) -> Images:
        meta = folder / self.meta_file
        names = _field(read_pickle(meta), self.names_key, meta, (list, tuple))
        try:
            class_names = tuple(map(_text, names))
        except ValueError as error:
            raise DataError(f"{meta}: {self.names_key!r} must hold the names of the classes: {error}") from error
        self.accept_classes(len(names), str(folder))
        train, evaluate = (self._read_split(folder, files) for files in (self.train_files, self.eval_files))
        return Images(train, evaluate, class_names)

    def _read_split(self, folder: pathlib.Path, files: tuple[str, ...]) -> ArraySplit:
        images, labels = [], []
        for path in (folder / file for file in files):
            content = read_pickle(path)
            rows = _field(content, "data", path, (np.ndarray,))
            ids = _field(content, self.labels_key, path, (list, tuple, np.ndarray))
            ids = ids.ravel().tolist() if isinstance(ids, np.ndarray) else ids
            if rows.dtype != np.uint8 or rows.shape != (len(ids), 3072):
                raise DataError(f"{path}: 'data' is {rows.dtype} {rows.shape}; it must be uint8 ({len(ids)}, 3072)")
            if not all(type(label) is int for label in ids):
                raise DataError(f"{path}: {self.labels_key!r} holds something else than whole numbers")
            if ids and not 0 <= min(ids) <= max(ids) < self.num_classes:
                raise DataError(f"{path}: labels reach from {min(ids)} to {max(ids)}, of {self.num_classes} classes")
            images.append(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(np.array(ids, np.int32))
        return ArraySplit(np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels))

    def _load_tfds(self, folder: pathlib.Path) -> Images:
        train, evaluate, names = tfds_sources(folder, "train", "test", "image", "label")
        self.accept_classes(len(names), str(folder))
        splits = [
            decode_all(LoadExample(source, 32, 3, 32), len(source), f"{source.split} of {folder}", "raise")
            for source in (train, evaluate)
        ]
        return Images(splits[0], splits[1], names)


@dataclasses.dataclass(kw_only=True)
class Cifar10(Cifar):
    """50,000 / 10,000 images of 10 classes."""

    folder = "cifar-10-batches-py"
    archive = "cifar-10-python.tar.gz"
    tfds_name = "cifar10"
    train_files = tuple(f"data_batch_{part}" for part in range(1, 6))
    eval_files = ("test_batch",)
    meta_file = "batches.meta"
    names_key = "label_names"
    labels_key = "labels"


@dataclasses.dataclass(kw_only=True)
class Cifar100(Cifar):
    """50,000 / 10,000 images of 100 (fine) classes."""

    folder = "cifar-100-python"
    archive = "cifar-100-python.tar.gz"
    tfds_name = "cifar100"
    train_files = ("train",)
    eval_files = ("test",)
    meta_file = "meta"
    names_key = "fine_label_names"
    labels_key = "fine_labels"


def read_pickle(path: pathlib.Path) -> dict[str, Any]:
    """The dict in a pickle of Python 2 or 3, with str keys; raises DataError naming the file."""
    try:
        content = pickles.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise pickles.PickleError(f"it holds a {type(content).__name__}; a CIFAR pickle holds a dict")
        return {_text(key): _plain(value) for key, value in content.items()}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: not a CIFAR pickle, or a damaged one: {error}") from error


def _plain(value: Any) -> Any:
    """Numbers as an array; an array of anything else, such as file names, as it is: nobody asks for it."""
    return value.numbers() if isinstance(value, pickles.Array) and value.is_of_numbers else value


def _text(value: Any) -> str:
    if not isinstance(value, str | bytes):
        raise pickles.PickleError(f"a name is a {type(value).__name__}, not text")
    return value.decode() if isinstance(value, bytes) else value


def _field(content: dict[str, Any], key: str, path: pathlib.Path, kinds: tuple[type, ...]) -> Any:
    if key not in content:
        raise DataError(f"{path}: has no {key!r}; it has {', '.join(content)[:200]}")
    if not isinstance(content[key], kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise DataError(f"{path}: {key!r} is a {type(content[key]).__name__}; it must be a {names}")
    return content[key]
