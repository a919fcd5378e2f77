"""Image sets that tensorflow-datasets prepared as ArrayRecord files, read without TensorFlow."""

import dataclasses
import pathlib
import re

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.encoded import EncodedImages
from mhe_jax.data.images.tfds_source import TfdsSource, open_builder


@dataclasses.dataclass(kw_only=True)
class TfdsImages(EncodedImages):
    """A set that tensorflow-datasets prepared under `path`, its data_dir.

    dataset: 'name', 'name/config' or 'name:1.2.3'; the newest version if none is named.
    train_split: the split, or a part such as 'train[:90%]', to train on.
    eval_split: the one to evaluate.
    image_key: name of the feature that is the picture.
    label_key: name of the feature that is the class.
    """

    dataset: str
    train_split: str = "train"
    eval_split: str = "test"
    image_key: str = "image"
    label_key: str = "label"

    def sources(self) -> tuple[TfdsSource, TfdsSource, tuple[str, ...]]:
        folder = find_prepared(self.path, self.dataset)
        return tfds_sources(folder, self.train_split, self.eval_split, self.image_key, self.label_key)


def tfds_sources(
    folder: pathlib.Path, train_split: str, eval_split: str, image_key: str, label_key: str
) -> tuple[TfdsSource, TfdsSource, tuple[str, ...]]:
    """(train, eval, class names) of the prepared set in `folder`; raises DataError for unknown splits and features."""
    info = open_builder(folder).info
    for field, split in (("train_split", train_split), ("eval_split", eval_split)):
        if re.split(r"[\[+]", split)[0] not in info.splits:
            raise DataError(f"config.data.{field} is {split!r}, but {folder} has the splits {', '.join(info.splits)}")
    for field, key, kind in (("image_key", image_key, "Image"), ("label_key", label_key, "ClassLabel")):
        if key not in info.features or type(info.features[key]).__name__ != kind:
            raise DataError(f"config.data.{field} is {key!r}, which is no {kind} feature of {folder}: {info.features}")
    train, evaluate = (TfdsSource(str(folder), split, image_key, label_key) for split in (train_split, eval_split))
    return train, evaluate, tuple(info.features[label_key].names)


def find_prepared(path: str, dataset: str) -> pathlib.Path:
    """The folder `path/name[/config]/version` of a prepared set, the newest version if none is named.

    Raises:
      DataError: with the command that prepares it, if there is none.
    """
    name, _, version = dataset.partition(":")
    found = pathlib.Path(path).expanduser().joinpath(name).glob(f"{version or '*'}/dataset_info.json")
    versions = {tuple(map(int, info.parent.name.split("."))): info.parent for info in found if _is_version(info.parent)}
    if not versions:
        raise DataError(
            f"{path} holds no prepared tensorflow-datasets set {dataset!r}: "
            f"run python launch/prepare_tfds.py --dataset {dataset} --data_dir {path}"
        )
    return versions[max(versions)]


def _is_version(folder: pathlib.Path) -> bool:
    return re.fullmatch(r"\d+\.\d+\.\d+", folder.name) is not None
