"""Pictures with any number of labels each, which a file beside them tells: `train/labels.csv`, `val/labels.csv`."""

import dataclasses
import pathlib
import warnings
from typing import Any

import jax
import numpy as np

from mhe_jax.data.choosing import require_labels
from mhe_jax.data.dataset import ArraySplit, DataError, Split, StreamSplit
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.images.encoded import EncodedImages, find_channels
from mhe_jax.data.images.file_source import FileSource
from mhe_jax.data.images.folder import held_out, place_of
from mhe_jax.data.images.label_file import ENDINGS, LabelFile, find_label_file, read_label_file
from mhe_jax.data.images.row_labels import label_matrices
from mhe_jax.data.many_labels import ManyLabels
from mhe_jax.data.propensity import inverse_propensity, require_model
from mhe_jax.data.single_label import require_one_label
from mhe_jax.data.tables.columns import Columns
from mhe_jax.recipes.propensity import DEFAULT

_LABELS = 100  # width of a batch's labels where the data is not there to tell
_VALID_NAMES = ("val", "valid", "validation", "dev")


@dataclasses.dataclass(frozen=True)
class _Part:
    """The pictures of one split, in `folder`, and what the file there says."""

    folder: pathlib.Path
    file: LabelFile


@dataclasses.dataclass(kw_only=True)
class LabelledImages(EncodedImages):
    """`path` holds train/, and val/ or test/ or both, each with a file of labels; or such a file itself.

    The file is labels.csv, .tsv, .jsonl or .parquet (or metadata for labels): a row for each picture in its folder, or
    in the folders below it, with a column `file_name`, one or more of labels, as tables of texts have them, and perhaps
    one named `ignored`: labels of which it is not known whether the picture has them. They are left out of the loss and
    of rankings. A label's id is its rank among those of all splits.

    valid_share: share of the training pictures that are held out to choose the best checkpoint, and thresholds, where
      there is no val/; the choice is by name, and stays as others are added. With `single_label` every class keeps a
      picture to train on, and has one held out if it has two.
    label_column, label_separator: of CSV, TSV and Parquet, as for texts.
    single_label: every picture has just one label: heads and metrics are those of classes.
    propensity: A and B of the propensity model, for the propensity-scored metrics.
    """

    multilabel: bool = dataclasses.field(default=True, init=False, repr=False)

    valid_share: float = 0.0
    label_column: str = ""
    label_separator: str = ""
    single_label: bool = False
    propensity: tuple[float, float] = DEFAULT

    def __post_init__(self):
        super().__post_init__()
        require_model(self.propensity)
        if not 0 <= self.valid_share < 1:
            raise ValueError(f"config.data.valid_share is {self.valid_share}; it must be at least 0 and below 1")
        self.multilabel, self._width = not self.single_label, _LABELS

    def load(self) -> Images:
        parts, chosen_on = self._parts()
        names, labels, layout = label_matrices({name: part.file for name, part in parts.items()})
        if not labels["train"].labels.nnz:
            raise DataError(f"{parts['train'].folder}: no picture has a label")
        self.accept_classes(len(names), self.path)
        if self.single_label:
            for name, many in labels.items():
                self._require_single(many, name)
        sources = {
            name: FileSource(str(part.folder), np.array(list(part.file.rows), np.bytes_))
            for name, part in parts.items()
        }
        if self.valid_share:
            self._hold_out(sources, labels)
        if self.multilabel:
            require_labels(labels["eval"].labels, parts.get("eval", parts["train"]).folder, "pictures")
        self.channels = self.channels or find_channels(sources["train"])
        if self.augmentation == "auto":
            self.augmentation = "affine" if self.channels == 1 else "flip_crop"
        inverse = inverse_propensity(labels["train"].labels, *self.propensity)
        splits: dict[str, Split] = {}
        for name, source in sources.items():
            many = labels[name] if name == "train" else dataclasses.replace(labels[name], inverse_propensity=inverse)
            splits[name] = self._labelled(self._split(source, "train" if name == "train" else "eval"), many)
        self._width = labels["train"].widths[0]
        facts = {"layout": layout, "labels": len(names), "chosen_on": chosen_on}
        facts |= {name: _facts(labels[name]) for name in splits}
        return Images(splits["train"], splits["eval"], names, splits.get("test"), facts)

    def abstract_batch(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        batch = super().abstract_batch(batch_size)
        if self.multilabel:
            batch["label"] = jax.ShapeDtypeStruct((batch_size, self._width), np.int32)
        return batch

    def _labelled(self, split: Split, many: ManyLabels) -> Split:
        """A split whose labels are the numbers of its pictures, with the labels of these."""
        if self.multilabel:
            return dataclasses.replace(split, many=many)
        ids = many.labels.indices.astype(np.int32)
        if isinstance(split, ArraySplit):
            return dataclasses.replace(split, labels=ids[split.labels])
        assert isinstance(split, StreamSplit)
        return dataclasses.replace(split, code_of_label=ids)

    def _require_single(self, many: ManyLabels, name: str) -> None:
        if not many.labels.nnz:
            raise DataError(f"{self.path}: no picture of {name} has a label: config.data.single_label asks for one")
        require_one_label(many.labels, f"{self.path}: {name}")

    def _hold_out(self, sources: dict[str, FileSource], labels: dict[str, ManyLabels]) -> None:
        """Cuts the pictures 'train' in two, 'train' and 'eval': by class, or where there are many labels by name."""
        train, many = sources["train"], labels["train"]
        if self.single_label:
            out = held_out(train.files, many.labels.indices, self.valid_share)
            if not out.any():
                raise DataError(
                    f"{train.folder}: no class has two pictures, of which config.data.valid_share takes one"
                )
        else:
            out = np.array([*map(place_of, train.files)]) < self.valid_share
            if not 0 < out.sum() < len(out):
                raise DataError(
                    f"{train.folder}: config.data.valid_share {self.valid_share} holds out {out.sum()} of {len(out)}"
                )
        for name, kept in (("train", ~out), ("eval", out)):
            sources[name] = FileSource(train.folder, train.files[kept])
            ignored = None if many.ignored is None else many.ignored[kept]
            labels[name] = ManyLabels(many.labels[kept], ignored if ignored is not None and ignored.nnz else None)
        only = np.setdiff1d(labels["eval"].labels.indices, labels["train"].labels.indices)
        if len(only):
            warnings.warn(
                f"{train.folder}: config.data.valid_share {self.valid_share} holds out all pictures of {len(only)} of "
                f"{many.labels.shape[1]} labels, which are not trained on",
                stacklevel=2,
            )

    def _parts(self) -> tuple[dict[str, _Part], str]:
        """The splits 'train', 'eval' and, where those are others, 'test'; and what 'eval' is."""
        root = pathlib.Path(self.path).expanduser()
        if not self.path or not root.is_dir():
            raise DataError(f"config.data.path is {self.path!r}, which is not a folder")
        folders = {
            name: root / found
            for name, names in (("train", ("train",)), ("eval", _VALID_NAMES), ("test", ("test",)))
            if (found := next((one for one in names if (root / one).is_dir()), None))
        }
        if folders and "train" not in folders:
            raise DataError(f"{root} holds {', '.join(path.name for path in folders.values())} but no train/")
        parts: dict[str, _Part] = {}
        for name, folder in (folders or {"train": root}).items():
            parts[name] = self._read(folder, parts["train"].file if parts else None)
        if self.valid_share:
            if "eval" in parts:
                raise DataError(
                    f"config.data.valid_share is {self.valid_share}, but {folders['eval']} is there: set it to 0"
                )
            return parts, "training pictures"
        if "eval" in parts:
            return parts, "validation pictures"
        if "test" not in parts:
            raise DataError(
                f"{root} holds no val/ or test/ folder; or set config.data.valid_share to hold out pictures"
            )
        return {"train": parts["train"], "eval": parts["test"]}, "the test pictures"

    def _read(self, folder: pathlib.Path, train: LabelFile | None) -> _Part:
        path = find_label_file(folder)
        if path is None:
            raise DataError(f"{folder} holds no file of labels: labels{', labels'.join(ENDINGS)}")
        asked = Columns("", self.label_column, self.label_separator)
        return _Part(folder, read_label_file(path, asked, None if train is None else train.columns))


def _facts(many: ManyLabels) -> dict[str, Any]:
    counts = np.diff(many.labels.indptr)
    return {
        "pictures": len(counts),
        "labels_per_picture": round(float(counts.mean()), 3),
        "without_labels": int((counts == 0).sum()),
        "ignored": 0 if many.ignored is None else int(many.ignored.nnz),
    }
