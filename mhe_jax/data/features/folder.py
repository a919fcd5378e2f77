"""Features in `train/features.npy` and `val/features.npy`, with labels beside them: made once, and trained on often.

They may also be in features.safetensors, or in Parquet files.
"""

import dataclasses
import pathlib
from collections.abc import Container

import numpy as np

from mhe_jax.data.choosing import require_labels
from mhe_jax.data.dataset import DataError
from mhe_jax.data.features import labels as files
from mhe_jax.data.features import parquet
from mhe_jax.data.features.arrays import FILE, open_features, require_finite
from mhe_jax.data.features.dataset import FeatureData, Features, FeatureSplit, MultiLabelData
from mhe_jax.data.propensity import inverse_propensity

TENSOR = "features.safetensors"
TRAIN, VALID, TEST = "train", "val", "test"


@dataclasses.dataclass(kw_only=True)
class FeatureFolder(FeatureData):
    """`path` holds train/, val/ and perhaps test/, or test/ alone beside train/, each with features and labels.

    Features are in features.npy, features.safetensors, or Parquet files; labels in labels.npy, in labels.jsonl, or in
    those Parquet files. Labels are the numbers of the classes, or their names. classes.txt in `path` lists the names;
    without it names are sorted, and numbers are counted up to the highest.
    """

    def load(self) -> Features:
        folders = split_folders(self.path)
        names = files.read_names(folders[TRAIN].parent)
        features = {name: read_features(self, folder) for name, folder in folders.items()}
        labelled = {name: labels_beside(folder, self.multilabel) for name, folder in folders.items()}
        paths = {name: file.path for name, file in labelled.items()}
        where: object = folders[TRAIN].parent / files.NAMES if names else paths[TRAIN]
        found = {name: files.read_one(file.folder, len(features[name]), file.path) for name, file in labelled.items()}
        named = found[TRAIN].dtype.kind == "U"
        files.require_one_kind({name: labels.dtype for name, labels in found.items()}, paths)
        if named:
            names = names or tuple(np.unique(found[TRAIN]).tolist())
            if len(set(names)) < len(names):
                raise DataError(f"{where} lists a name twice, but labels are names: make them differ")
            number = len(names)
        else:
            where = where if names or not self.num_classes else "config.data.num_classes"
            number = len(names) or self.num_classes or 1 + max(0, *(int(labels.max()) for labels in found.values()))
        self.accept_classes(number, str(where))
        splits = {
            name: FeatureSplit(
                features[name],
                files.ids_of(paths[name], labels, names, number, where),
                fits_device(self, features[name]),
            )
            for name, labels in found.items()
        }
        return loaded(splits, names)


@dataclasses.dataclass(kw_only=True)
class MultiLabelFolder(MultiLabelData):
    """The folder of `features` with labels.npz in the place of labels.npy: a sparse matrix of rows and labels.

    labels.jsonl, or the column of Parquet files, holds a list for each row. filtered.npz beside them, another such
    matrix, has the labels that evaluation leaves out of a row's ranking.
    """

    def load(self) -> Features:
        folders = split_folders(self.path)
        names = files.read_names(folders[TRAIN].parent)
        features = {name: read_features(self, folder) for name, folder in folders.items()}
        labelled = {name: labels_beside(folder, self.multilabel) for name, folder in folders.items()}
        paths = {name: file.path for name, file in labelled.items()}
        where = folders[TRAIN].parent / files.NAMES if names else paths[TRAIN]
        read = {name: files.read_many(file.folder, len(features[name]), file.path) for name, file in labelled.items()}
        files.require_one_kind(files.kinds(read, names), paths)
        names, found = files.matrices(read, names, where)
        filtered = {
            name: files.read_filtered(folder, len(features[name])) for name, folder in folders.items() if name != TRAIN
        }
        number = len(names) or found[TRAIN].shape[1]
        beside = {name: folder / files.FILTERED for name, folder in folders.items()}
        for at, matrices in ((paths, found), (beside, filtered)):
            for name, matrix in matrices.items():
                if matrix is not None and matrix.shape[1] != number:
                    raise DataError(
                        f"{at[name]} has {matrix.shape[1]} columns, but {where} {number} labels: a column for each is "
                        "needed"
                    )
        if not found[TRAIN].nnz:
            raise DataError(f"{paths[TRAIN]}: none of the {found[TRAIN].shape[0]} rows has a label")
        chooses = chosen_on(found)
        require_labels(found[chooses], paths[chooses], "rows")
        self.accept_classes(number, str(where))
        inverse = inverse_propensity(found[TRAIN], *self.propensity)
        splits = {
            name: FeatureSplit(
                features[name],
                labels,
                fits_device(self, features[name]),
                filtered.get(name),
                None if name == TRAIN else inverse,
            )
            for name, labels in found.items()
        }
        return loaded(splits, names)


def split_folders(path: str) -> dict[str, pathlib.Path]:
    """The folders of the splits by name, train first; raises DataError unless one trains and one evaluates."""
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise DataError(f"config.data.path is {path!r}, which is not a folder")
    found = {name: root / name for name in (TRAIN, VALID, TEST) if (root / name).is_dir()}
    if TRAIN not in found:
        raise DataError(f"{root} holds no {TRAIN}/ folder with {FILE} and labels")
    if len(found) == 1:
        raise DataError(f"{root} holds no {VALID}/ or {TEST}/ folder with {FILE} and labels to evaluate")
    return found


def read_features(data: FeatureData, folder: pathlib.Path) -> np.ndarray:
    """The features of a split, [N, D]; D becomes that of the data set, if it has none yet."""
    path = features_file(folder, data.multilabel)
    features = open_features(path, data.features_dim)
    data.features_dim = features.shape[1]
    if data.check_finite:
        require_finite(path, features)
    return features


def features_file(folder: pathlib.Path, several: bool) -> pathlib.Path:
    """Where the features of a split are; of Parquet files, what they were decoded into, with labels as `parquet` says.

    Raises:
      DataError: if there are none, or in more than one form.
    """
    tables = sorted(folder.glob("*.parquet"))
    there = [path.name for path in (folder / FILE, folder / TENSOR) if path.exists()]
    if len(there) + bool(tables) > 1:
        raise DataError(f"{folder} holds {', '.join([*there, *(path.name for path in tables)][:4])}: leave one of them")
    return parquet.decoded(tables, several) / FILE if tables else folder / (there or [FILE])[0]


@dataclasses.dataclass(frozen=True)
class LabelsBeside:
    """Where the labels of a split are: the folder that holds their file, and what messages name."""

    folder: pathlib.Path
    path: pathlib.Path


def labels_beside(folder: pathlib.Path, several: bool) -> LabelsBeside:
    """The labels of a split: a file of its own, or what Parquet files with labels were decoded into.

    Args:
      folder: of the split.
      several: whether a row has any number of labels.

    Raises:
      DataError: if there are both, or Parquet files have labels of the other kind alone.
    """
    own = files.label_file(folder, files.MANY if several else files.ONE)
    tables = sorted(folder.glob("*.parquet"))
    if not tables:
        return LabelsBeside(folder, own)
    decoded = parquet.decoded(tables, several)
    if not files.label_file(decoded, files.LINES if several else files.ONE).exists():
        if not any((folder / name).exists() for name in (files.ONE, files.MANY, files.LINES)):
            parquet.require_no_other_labels(tables[0], several)
        return LabelsBeside(folder, own)
    if own.exists():
        raise DataError(
            f"{folder} holds {own.name}, and {tables[0].name} labels in the column {parquet.LABELS[several]!r}: leave "
            "one of them"
        )
    return LabelsBeside(decoded, tables[0] if len(tables) == 1 else folder / "*.parquet")


def fits_device(data: FeatureData, features: np.ndarray) -> bool:
    """Whether the features of a split shall lie on each device."""
    return features.nbytes <= data.device_mebibytes << 20


def chosen_on(splits: Container[str]) -> str:
    """The split, of those with these names, that chooses the best checkpoint."""
    return VALID if VALID in splits else TEST


def loaded(splits: dict[str, FeatureSplit], names: tuple[str, ...]) -> Features:
    """The data set of the splits by name, of which val/ chooses the best checkpoint, or test/ where it is alone."""
    evaluate = chosen_on(splits)
    width = splits[TRAIN].features.shape[1]
    facts = {
        "features_dim": width,
        **{
            name: {"rows": split.num_examples, "dtype": str(split.features.dtype), "on_device": split.resident}
            for name, split in splits.items()
        },
        "chosen_on": evaluate,
    }
    return Features(splits[TRAIN], splits[evaluate], splits.get(TEST) if evaluate == VALID else None, names, facts)
