"""Pictures with any number of labels each, which a file beside them tells: `train/labels.csv`, `val/labels.csv`."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import scipy.sparse

from mhe_jax.data.choosing import require_labels
from mhe_jax.data.dataset import ArraySplit, DataError, Split, StreamSplit
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.images.encoded import EncodedImages, find_channels
from mhe_jax.data.images.file_source import FileSource
from mhe_jax.data.images.label_file import ENDINGS, Row, find_label_file, read_label_file
from mhe_jax.data.many_labels import ManyLabels
from mhe_jax.data.propensity import inverse_propensity, require_model
from mhe_jax.data.single_label import require_one_label
from mhe_jax.data.tables.columns import Columns
from mhe_jax.recipes.propensity import DEFAULT

_LABELS = 100  # width of a batch's labels where the data is not there to tell
_VALID_NAMES = ("val", "valid", "validation", "dev")


@dataclasses.dataclass(frozen=True)
class _Part:
    """The pictures of one split: those of `rows` in `folder`."""

    folder: pathlib.Path
    rows: Mapping[bytes, Row]


@dataclasses.dataclass(kw_only=True)
class LabelledImages(EncodedImages):
    """`path` holds train/, and val/ or test/ or both, each with a file of labels; or such a file itself.

    The file is labels.csv, .tsv, .jsonl or .parquet (or metadata for labels): a row for each picture in its folder, or
    in the folders below it, with a column `file_name`, one or more of labels, as tables of texts have them, and perhaps
    one named `ignored`: labels of which it is not known whether the picture has them. They are left out of the loss and
    of rankings. A label's id is its rank among those of all splits.

    valid_share: share of the training pictures that are held out to choose the best checkpoint, and thresholds, where
      there is no val/; the choice is by name, and stays as others are added.
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
        names, labels = _matrices({name: part.rows for name, part in parts.items()})
        if not names:
            raise DataError(f"{parts['train'].folder}: no picture has a label")
        if self.multilabel:
            require_labels(labels["eval"].labels, parts["eval"].folder, "pictures")
        self.accept_classes(len(names), self.path)
        sources = {
            name: FileSource(str(part.folder), np.array(list(part.rows), np.bytes_)) for name, part in parts.items()
        }
        self.channels = self.channels or find_channels(sources["train"])
        if self.augmentation == "auto":
            self.augmentation = "affine" if self.channels == 1 else "flip_crop"
        inverse = inverse_propensity(labels["train"].labels, *self.propensity)
        splits: dict[str, Split] = {}
        for name, source in sources.items():
            many = labels[name] if name == "train" else dataclasses.replace(labels[name], inverse_propensity=inverse)
            splits[name] = self._labelled(self._split(source, "train" if name == "train" else "eval"), many, name)
        self._width = labels["train"].widths[0]
        facts = {"labels": len(names), "chosen_on": chosen_on}
        facts |= {name: _facts(labels[name]) for name in parts}
        return Images(splits["train"], splits["eval"], names, splits.get("test"), facts)

    def abstract_batch(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        batch = super().abstract_batch(batch_size)
        if self.multilabel:
            batch["label"] = jax.ShapeDtypeStruct((batch_size, self._width), np.int32)
        return batch

    def _labelled(self, split: Split, many: ManyLabels, name: str) -> Split:
        """A split whose labels are the numbers of its pictures, with the labels of these."""
        if self.multilabel:
            return dataclasses.replace(split, many=many)
        if not many.labels.nnz:
            raise DataError(f"{self.path}: no picture of {name} has a label: config.data.single_label asks for one")
        require_one_label(many.labels, f"{self.path}: {name}")
        ids = many.labels.indices.astype(np.int32)
        if isinstance(split, ArraySplit):
            return dataclasses.replace(split, labels=ids[split.labels])
        assert isinstance(split, StreamSplit)
        return dataclasses.replace(split, code_of_label=ids)

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
        parts = {name: self._read(folder) for name, folder in (folders or {"train": root}).items()}
        if "train" not in parts:
            raise DataError(f"{root} holds {', '.join(path.name for path in folders.values())} but no train/")
        if self.valid_share:
            if "eval" in parts:
                raise DataError(
                    f"config.data.valid_share is {self.valid_share}, but {folders['eval']} is there: set it to 0"
                )
            parts |= _held_out(parts["train"], self.valid_share)
            return parts, "training pictures"
        if "eval" in parts:
            return parts, "validation pictures"
        if "test" not in parts:
            raise DataError(
                f"{root} holds no val/ or test/ folder; or set config.data.valid_share to hold out pictures"
            )
        return {"train": parts["train"], "eval": parts["test"]}, "the test pictures"

    def _read(self, folder: pathlib.Path) -> _Part:
        path = find_label_file(folder)
        if path is None:
            raise DataError(f"{folder} holds no file of labels: labels{', labels'.join(ENDINGS)}")
        return _Part(folder, read_label_file(path, Columns("", self.label_column, self.label_separator)))


def _held_out(train: _Part, share: float) -> dict[str, _Part]:
    """Training pictures cut in two by a hash of their names: 'train' and 'eval'."""
    place = lambda file: int.from_bytes(hashlib.blake2b(file, digest_size=6).digest()) / 2**48
    out = {file for file in train.rows if place(file) < share}
    if not 0 < len(out) < len(train.rows):
        raise DataError(f"{train.folder}: config.data.valid_share {share} holds out {len(out)} of {len(train.rows)}")
    rows = {name: {f: row for f, row in train.rows.items() if (f in out) == (name == "eval")} for name in _SPLIT}
    return {name: _Part(train.folder, of) for name, of in rows.items()}


_SPLIT = ("train", "eval")


def _matrices(splits: Mapping[str, Mapping[bytes, Row]]) -> tuple[tuple[str, ...], dict[str, ManyLabels]]:
    """The names of the labels of all splits in order, and the labels of each split."""
    occurring = {label for rows in splits.values() for row in rows.values() for label in (*row.labels, *row.ignored)}
    kinds = {type(label) for label in occurring}
    if len(kinds) > 1:
        raise DataError("labels are strings in some files and integers in others: write all in one way")
    if kinds - {str, int}:
        wrong = next(iter(occurring))
        raise DataError(f"labels are like {wrong!r}; they must be strings or integers, or columns of noughts and ones")
    places = {label: place for place, label in enumerate(sorted(occurring))}

    def csr(rows: Sequence[list[Any]]) -> scipy.sparse.csr_matrix:
        columns = [sorted({places[label] for label in row}) for row in rows]
        ends = np.cumsum([0, *map(len, columns)])
        flat = np.array([column for row in columns for column in row], np.int32)
        return scipy.sparse.csr_matrix((np.ones(len(flat), np.float32), flat, ends), (len(rows), len(places)))

    found = {}
    for name, rows in splits.items():
        ignored = csr([row.ignored for row in rows.values()])
        found[name] = ManyLabels(csr([row.labels for row in rows.values()]), ignored if ignored.nnz else None)
    return tuple(map(str, places)), found


def _facts(many: ManyLabels) -> dict[str, Any]:
    counts = np.diff(many.labels.indptr)
    return {
        "pictures": len(counts),
        "labels_per_picture": round(float(counts.mean()), 3),
        "without_labels": int((counts == 0).sum()),
        "ignored": 0 if many.ignored is None else int(many.ignored.nnz),
    }
