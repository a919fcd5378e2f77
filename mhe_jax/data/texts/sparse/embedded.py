"""Documents as what a frozen encoder made of them once, and as their words: the one knows meanings, the other names."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError, require_at_least
from mhe_jax.data.features import labels as files
from mhe_jax.data.features.arrays import open_features, require_finite
from mhe_jax.data.features.folder import FILE, TEST, TRAIN, VALID
from mhe_jax.data.texts.dataset import Texts
from mhe_jax.data.texts.sparse.dataset import SparseSplit
from mhe_jax.data.texts.sparse.rows import Rows
from mhe_jax.data.texts.sparse.words import WordData
from mhe_jax.settings import option

_SAME = "embed the same documents, with the same config.data.valid_examples, max_train and max_eval"
_FOLDERS = {"train": TRAIN, "eval": VALID, "test": TEST}


@dataclasses.dataclass(frozen=True)
class EmbeddedSplit(SparseSplit):
    """Words of one split, and `features`, float16 or float32 [N, D], of the same documents."""

    features: np.ndarray = dataclasses.field(kw_only=True)

    def inputs(self, documents: np.ndarray, width: int) -> dict[str, np.ndarray]:
        return {"features": self.features[documents], **super().inputs(documents, width)}


@dataclasses.dataclass(kw_only=True)
class EmbeddedWords(WordData):
    """The words of documents beside features of them, from the folder that `mhe embed` wrote for the same documents.

    features: the folder. `path`, valid_examples, max_train and max_eval have to be those of the command.
    embedding_dim: D, the width of the features; 0 takes that of the folder, which a run keeps; otherwise it is checked.
    """

    features: str = option("", free=True)
    embedding_dim: int = 0

    # Makes features float [N, D] of texts, where what made those of the folder is at hand.
    embed: Callable[[Sequence[str]], np.ndarray] | None = dataclasses.field(default=None, init=False, repr=False)

    def __post_init__(self):
        super().__post_init__()
        require_at_least("embedding_dim", self.embedding_dim, 0)

    @property
    def example(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"features": jax.ShapeDtypeStruct((1, self.embedding_dim), np.float32), **super().example}

    def load(self) -> Texts:
        if not self.features:
            raise DataError("config.data.features is empty; give the folder that `mhe embed` wrote for these documents")
        return super().load()

    def abstract_batch(
        self, batch_size: int, length: int = 0, evaluates: bool = False
    ) -> dict[str, jax.ShapeDtypeStruct]:
        features = jax.ShapeDtypeStruct((batch_size, self.embedding_dim), np.float32)
        return {"features": features, **super().abstract_batch(batch_size, length, evaluates)}

    def inputs_of(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Texts as evaluation would see them; raises ValueError if there is nothing to make features of them."""
        if self.embed is None:
            raise ValueError(
                f"what made the features in {self.features} is not there, so that texts have none: only `mhe embed` of "
                "texts keeps its encoder beside them"
            )
        return {"features": self.embed(texts), **super().inputs_of(texts)}

    def _split(self, name: str, rows: Rows, inverse: np.ndarray) -> tuple[EmbeddedSplit, dict[str, Any]]:
        folder = pathlib.Path(self.features, _FOLDERS[name])
        features = open_features(folder / FILE)
        if self.embedding_dim not in (0, features.shape[1]):
            raise DataError(
                f"config.data.embedding_dim is {self.embedding_dim}, but {folder / FILE} has {features.shape[1]}"
            )
        self.embedding_dim = features.shape[1]
        _require_same_documents(folder, len(features), rows.labels)
        require_finite(folder / FILE, features)
        split, facts = super()._split(name, rows, inverse)
        own = {field.name: getattr(split, field.name) for field in dataclasses.fields(split)}
        return EmbeddedSplit(**own, features=features), facts


def _require_same_documents(folder: pathlib.Path, count: int, labels: scipy.sparse.csr_matrix) -> None:
    """Raises DataError unless a folder of `count` features has these labels, CSR [N, L], row by row."""
    path = folder / files.MANY
    there = files.read_many(folder, count)
    if isinstance(there, files.Listed):
        raise DataError(f"{there.path} lists labels by name, but {path}, which `mhe embed` writes, has them by number")
    if there.shape != labels.shape:
        raise DataError(
            f"{path} has {list(there.shape)} rows and labels, but the documents {list(labels.shape)}: {_SAME}"
        )
    different = np.flatnonzero(np.diff(((there != 0) != (labels != 0)).indptr))
    if len(different):
        raise DataError(f"{path}: row {different[0]} has other labels than that document: {_SAME}")
