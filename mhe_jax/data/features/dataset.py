"""What a data set of features is: rows of a matrix with one label or many, and how they are batched."""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError, require_at_least, require_one_of
from mhe_jax.data.propensity import require_model
from mhe_jax.recipes.propensity import DEFAULT
from mhe_jax.settings import option

_LABELS = 100  # width of a batch's labels where the data is not there to tell


@dataclasses.dataclass(frozen=True)
class FeatureSplit:
    """Features of one split.

    features: float16, bfloat16 or float32 [N, D], a memory map.
    labels: int32 [N], or CSR [N, L].
    resident: whether the features lie on the device; otherwise each batch is read from the map.
    filtered: CSR [N, L], labels that evaluation leaves out of a row's ranking, if there are any.
    inverse_propensity: float32 [L], if the split is evaluated with it.
    """

    features: np.ndarray
    labels: np.ndarray | scipy.sparse.csr_matrix
    resident: bool
    filtered: scipy.sparse.csr_matrix | None = None
    inverse_propensity: np.ndarray | None = None

    @property
    def num_examples(self) -> int:
        return len(self.features)


@dataclasses.dataclass(frozen=True)
class Features:
    """A loaded data set; class_names is empty where classes have no names.

    eval: the rows that choose the best checkpoint; test: those that are evaluated once, if there are others.
    facts: what was found, for result.json.
    """

    train: FeatureSplit
    eval: FeatureSplit
    test: FeatureSplit | None
    class_names: tuple[str, ...]
    facts: dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class FeatureData:
    """Base of the data sets of features; the fields of a subclass are the fields of `config.data`.

    Constructing reads no file: `load` does.

    path: the folder.
    features_dim: D; 0 takes the width that `load` finds, which a run keeps; otherwise `load` checks it.
    num_classes: 0 takes the number that `load` finds; otherwise `load` checks it.
    last_batch: 'drop' or 'keep' the smaller batch at the end of a training epoch.
    device_mebibytes: the features of a split of up to so many MiB lie on each device; larger ones are read batch by
      batch.
    check_finite: whether all features are looked at before the first step, for NaN and infinities.
    """

    # What of a batch the backbone takes.
    input_name: ClassVar[str] = "features"
    multilabel: bool = dataclasses.field(default=False, init=False, repr=False)

    path: str = option(free=True)
    features_dim: int
    num_classes: int = 0
    last_batch: str = "drop"
    device_mebibytes: int = option(512, free=True)
    check_finite: bool = option(True, free=True)

    def __post_init__(self):
        require_one_of("last_batch", self.last_batch, ("drop", "keep"))
        for field in ("features_dim", "num_classes", "device_mebibytes"):
            require_at_least(field, getattr(self, field), 0)

    @property
    def input_shape(self) -> tuple[int]:
        """(D,) of what the backbone sees."""
        return (self.features_dim,)

    @property
    def example(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What of a batch the backbone takes, for one row."""
        return {self.input_name: jax.ShapeDtypeStruct((1, *self.input_shape), np.float32)}

    def load(self) -> Features:
        """Reads the data; raises DataError when it is missing or differs from the config."""
        raise NotImplementedError

    def abstract_batch(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a training batch, without any data; labels of many are taken to be 100 at most."""
        label = (batch_size, _LABELS) if self.multilabel else (batch_size,)
        return {
            "features": jax.ShapeDtypeStruct((batch_size, self.features_dim), np.float32),
            "label": jax.ShapeDtypeStruct(label, np.int32),
            "weight": jax.ShapeDtypeStruct((batch_size,), np.float32),
        }

    def augment(self, features: jax.Array, key: jax.Array) -> jax.Array:
        """Training batch, traced: features [B, D] as they are."""
        return features

    def normalize(self, features: jax.Array) -> jax.Array:
        """Evaluation batch, traced: features [B, D] as they are."""
        return features

    def accept_classes(self, found: int, where: str) -> None:
        """Checks num_classes against what was found, or takes it over if it is 0."""
        if self.num_classes not in (0, found):
            raise DataError(f"config.data.num_classes is {self.num_classes} but {where} has {found} classes")
        self.num_classes = found


@dataclasses.dataclass(kw_only=True)
class MultiLabelData(FeatureData):
    """Base of those with many labels a row.

    propensity: A and B of the propensity model, for the propensity-scored metrics.
    """

    multilabel: bool = dataclasses.field(default=True, init=False, repr=False)

    propensity: tuple[float, float] = DEFAULT

    def __post_init__(self):
        super().__post_init__()
        require_model(self.propensity)
