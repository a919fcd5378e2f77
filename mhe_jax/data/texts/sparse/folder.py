"""Sparse features with many labels from a folder in any layout of the field."""

import dataclasses

import numpy as np
import scipy.sparse

from mhe_jax.data.texts.sparse.dataset import SparseData, held_out
from mhe_jax.data.texts.sparse.formats import read_rows
from mhe_jax.data.texts.sparse.rows import Rows, RowSets

_VALIDATION_SEED, _SUBSET_SEED = 1240, 0


@dataclasses.dataclass(kw_only=True)
class SparseFolder(SparseData):
    """Rows in any layout that `mhe_jax.data.texts.sparse.formats` tells of; `path` is the folder."""

    def read(self) -> RowSets:
        found = read_rows(self.path)
        self._labels = found.train.labels
        train, valid = found.train, found.valid
        if valid is None and self.valid_examples:
            kept, out = held_out(self.valid_examples, train.labels.shape[0], train.source, _VALIDATION_SEED)
            train, valid = train.choose(kept), train.choose(out)
        return dataclasses.replace(
            found,
            train=_at_most(train, self.max_train),
            valid=valid and _at_most(valid, self.max_eval),
            test=found.test and _at_most(found.test, self.max_eval),
        )

    def _all_labels(self, found: RowSets) -> scipy.sparse.csr_matrix:
        return self._labels


def _at_most(rows: Rows, limit: int) -> Rows:
    number = rows.labels.shape[0]
    if not 0 < limit < number:
        return rows
    return rows.choose(np.random.default_rng(_SUBSET_SEED).permutation(number)[:limit])
