"""Sparse features with many labels from a folder in any layout of the field."""

import dataclasses

from mhe_jax.data.texts.choices import held_out, some
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.formats import read_rows
from mhe_jax.data.texts.sparse.rows import Rows, RowSets


@dataclasses.dataclass(kw_only=True)
class SparseFolder(SparseData):
    """Rows in any layout that `mhe_jax.data.texts.sparse.formats` tells of; `path` is the folder."""

    def read(self) -> RowSets:
        found = read_rows(self.path)
        train, valid, test = found.train, found.valid, found.test
        if valid is None and self.valid_examples:
            kept, out = held_out(self.valid_examples, train.labels.shape[0], train.source)
            train, valid = train.choose(kept), train.choose(out)
        return dataclasses.replace(
            found,
            train=_at_most(train, self.max_train),
            valid=valid and _at_most(valid, self.max_eval),
            test=test and _at_most(test, self.max_eval),
        )


def _at_most(rows: Rows, limit: int) -> Rows:
    index = some(rows.labels.shape[0], limit)
    return rows if index is None else rows.choose(index)
