"""What a data set of sparse features is: rows of numbered features with values, many labels each, and their batches."""

import dataclasses
from typing import Any

import jax
import numpy as np
import scipy.sparse

from mhe_jax.data.choosing import require_labels
from mhe_jax.data.dataset import DataError, require_at_least, require_one_of
from mhe_jax.data.propensity import inverse_propensity, require_model
from mhe_jax.data.ragged import pad_rows
from mhe_jax.data.single_label import require_one_label
from mhe_jax.data.texts import buckets
from mhe_jax.data.texts.choices import require_share_or_number
from mhe_jax.data.texts.dataset import Texts, TextSplit
from mhe_jax.data.texts.sparse.rows import Rows, RowSets, longest, padded
from mhe_jax.recipes.propensity import DEFAULT
from mhe_jax.settings import option

_LABELS = 100  # width of a batch's labels where the data is not there to tell


@dataclasses.dataclass(frozen=True)
class SparseSplit(TextSplit):
    """Rows of one split: `tokens` are the numbers of their features, end to end, and `values` belong to them.

    values: float32 [M].
    width: V, above all numbers of features.
    """

    values: np.ndarray = dataclasses.field(kw_only=True)
    width: int = dataclasses.field(kw_only=True)

    @property
    def matrix(self) -> scipy.sparse.csr_matrix:
        """CSR float32 [N, V]; it shares the split's memory."""
        return scipy.sparse.csr_matrix((self.values, self.tokens, self.offsets), (self.num_examples, self.width))

    def inputs(self, documents: np.ndarray, width: int) -> dict[str, np.ndarray]:
        """'feature_ids' int32 and 'feature_values' float32 [B, width] of the rows, see `rows.padded`."""
        starts, counts = self.offsets[documents], self.offsets[documents + 1] - self.offsets[documents]
        return {
            "feature_ids": pad_rows(self.tokens, starts, counts, width, 0),
            "feature_values": pad_rows(self.values, starts, counts, width, 0),
        }


@dataclasses.dataclass(kw_only=True)
class SparseData:
    """Base of the data sets of sparse features; the fields of a subclass are the fields of `config.data`.

    Constructing reads no file: `load` does.

    path: the folder.
    features_dim: V, how many features there are; 0 takes the number that `load` finds, which a run keeps; otherwise
      `load` checks it.
    num_classes: 0 takes the number of labels that `load` finds; otherwise `load` checks it.
    last_batch: 'drop' or 'keep' the smaller batch at the end of a training epoch.
    max_row_features: features of a row, those of the largest magnitude; the others of a longer one are left out.
    label_width: labels of a row in a batch. 0 holds those of the row that has most. Otherwise training sees the first
      label_width labels of a row that has more, in the order in which its line lists them; evaluation still counts all.
    bucket_lengths: numbers of features that batches are padded to, besides max_row_features; empty for 16, 32, 64, ...
    sort_window: training rows are sorted by their number of features within this many batches; 1 shuffles without
      regard to it.
    valid_examples: rows that are taken out of training and choose the best checkpoint; below 1 it is their share. 0
      chooses it on the test rows; then there is no other test. Where there are validation rows, those choose it.
    max_train, max_eval: at most so many rows of training and of each split that is evaluated: a random choice, always
      the same one; 0 takes all.
    propensity: A and B of the propensity model, for the propensity-scored metrics.
    single_label: every row has just one label: heads and metrics are those of classes.
    """

    multilabel: bool = dataclasses.field(default=True, init=False, repr=False)

    path: str = option(free=True)
    features_dim: int = 0
    num_classes: int = 0
    last_batch: str = "drop"
    max_row_features: int = 512
    label_width: int = 0
    bucket_lengths: tuple[int, ...] = ()
    sort_window: int = 50
    valid_examples: float = 0
    max_train: int = 0
    max_eval: int = 0
    propensity: tuple[float, float] = DEFAULT
    single_label: bool = False

    def __post_init__(self):
        require_one_of("last_batch", self.last_batch, ("drop", "keep"))
        for field in ("features_dim", "num_classes", "label_width", "valid_examples", "max_train", "max_eval"):
            require_at_least(field, getattr(self, field), 0)
        for field in ("max_row_features", "sort_window"):
            require_at_least(field, getattr(self, field), 1)
        require_share_or_number(self.valid_examples)
        require_model(self.propensity)
        self.multilabel = not self.single_label
        buckets.bucket_lengths(self.bucket_lengths, self.max_row_features)

    @property
    def example(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What of a batch the backbone takes, in the order of its arguments, for one short row."""
        return {
            "feature_ids": jax.ShapeDtypeStruct((1, 4), np.int32),
            "feature_values": jax.ShapeDtypeStruct((1, 4), np.float32),
        }

    @property
    def buckets(self) -> tuple[int, ...]:
        """All numbers of features that a batch may have, ascending."""
        return buckets.bucket_lengths(self.bucket_lengths, self.max_row_features)

    def read(self) -> RowSets:
        """All rows; `train` are those that train, `valid` those that choose the best checkpoint.

        Raises:
          DataError: if files are missing or damaged.
        """
        raise NotImplementedError

    def load(self) -> Texts:
        """Reads the data; raises DataError when it is missing or differs from the config."""
        found = self.read()
        self.accept_classes(len(found.label_names), found.train.source)
        width = found.train.features.shape[1]
        if self.features_dim not in (0, width):
            raise DataError(f"config.data.features_dim is {self.features_dim}, but {found.train.source} has {width}")
        self.features_dim = width
        if not found.train.labels.nnz:
            raise DataError(f"{found.train.source}: none of the {found.train.labels.shape[0]} rows has a label")
        evaluated = found.test if found.valid is None else found.valid
        if evaluated is None:
            raise DataError(f"{found.train.source}: nothing to evaluate on; set config.data.valid_examples")
        how = f"config.data.valid_examples ({self.valid_examples:.15g}) or a validation file"
        require_labels(evaluated.labels, evaluated.source, "rows", how)
        test = found.test if found.valid is not None else None
        sets = {"train": found.train, "eval": evaluated, **({"test": test} if test is not None else {})}
        inverse = inverse_propensity(found.counted, *self.propensity)
        splits, facts = {}, {}
        for name, rows in sets.items():
            splits[name], facts[name] = self._split(name, rows, inverse)
        described = {"layout": found.layout, "features": width, "labels": len(found.label_names), **facts}
        return Texts(splits["train"], splits["eval"], splits.get("test"), found.label_names, described)

    def padded(self, features: scipy.sparse.csr_matrix) -> dict[str, np.ndarray]:
        """Rows of features CSR [N, V] as evaluation would see them, of one of the `buckets`, see `rows.padded`."""
        return padded(features, self.buckets)

    def abstract_batch(
        self, batch_size: int, length: int = 0, evaluates: bool = False
    ) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a batch of rows of one of the `buckets`, of 0 the longest, for training or evaluation.

        A label width that the data will decide is taken to be 100.
        """
        rows = (batch_size, length or self.max_row_features)
        label = (batch_size, self.label_width or _LABELS) if self.multilabel else (batch_size,)
        shapes = {
            "feature_ids": jax.ShapeDtypeStruct(rows, np.int32),
            "feature_values": jax.ShapeDtypeStruct(rows, np.float32),
            "label": jax.ShapeDtypeStruct(label, np.int32),
            "weight": jax.ShapeDtypeStruct((batch_size,), np.float32),
        }
        return {**shapes, **({"index": jax.ShapeDtypeStruct((batch_size,), np.int32)} if evaluates else {})}

    def accept_classes(self, found: int, where: str) -> None:
        """Checks num_classes against what was found, or takes it over if it is 0."""
        if self.num_classes not in (0, found):
            raise DataError(f"config.data.num_classes is {self.num_classes} but {where} has {found} labels")
        self.num_classes = found

    def _split(self, name: str, rows: Rows, inverse: np.ndarray) -> tuple[SparseSplit, dict[str, Any]]:
        if self.single_label:
            require_one_label(rows.labels, rows.source)
        features, cut = longest(rows.features, self.max_row_features)
        counts, width = np.diff(features.indptr), np.diff(rows.labels.indptr)
        split = SparseSplit(
            tokens=features.indices.astype(np.int32, copy=False),
            offsets=features.indptr.astype(np.int64),
            labels=rows.labels,
            label_width=(self.label_width if name == "train" else 0) or max(int(width.max(initial=0)), 1),
            bucket_lengths=self.buckets,
            sort_window=self.sort_window,
            filtered=rows.filtered if name != "train" and rows.filtered is not None and rows.filtered.nnz else None,
            inverse_propensity=None if name == "train" else inverse,
            listed=rows.listed if name == "train" else None,
            single_label=self.single_label,
            values=features.data,
            width=features.shape[1],
        )
        return split, {
            "rows": len(counts),
            "features_per_row": round(float(counts.mean()), 1),
            "rows_cut": round(cut / max(len(counts), 1), 4),
            "empty_rows": int((counts == 0).sum()),
            "labels_per_row": {"mean": round(float(width.mean()), 3), "max": int(width.max(initial=0))},
            "rows_without_labels": int((width == 0).sum()),
        }
