"""Batches of tokens, or of words, and labels, gathered from a split's ragged rows without a loop over documents."""

import functools

import jax
import numpy as np

from mhe_jax.data.feed import Feed, local_slice
from mhe_jax.data.order import EpochOrder, EvalOrder, Rows
from mhe_jax.data.ragged import columns_of, in_order, values_of
from mhe_jax.data.texts.buckets import LengthOrder
from mhe_jax.data.texts.dataset import TextSplit


class TextFeed(Feed):
    """Feeds documents of about one length, in batches of a few lengths T.

    A chunk is {what the split's `inputs` are, such as 'input_ids' int32 [count, b, T], padded with 0, and 'length'
    int32 [count, b]; 'label' int32 [count, b, W], padded with -1, in the order of the split's `listed`, or of documents
    with one label [count, b]; 'weight' float32 [count, b]}, and of `graded` labels 'target' float32 [count, b, W],
    their values. For evaluation also 'index' int32 [count, b], the document's number, and, where a document has labels
    to leave out, 'filtered'
    int32 [count, b, F], padded with -1. The batch of a split with propensities has 'inverse_propensity' float32 [L]
    too.
    """

    def __init__(
        self,
        split: TextSplit,
        order: EpochOrder | EvalOrder,
        process_index: int,
        process_count: int,
        graded: bool = False,
    ):
        super().__init__(order, process_index, process_count)
        self._graded = graded
        self._split, self._evaluates = split, isinstance(order, EvalOrder)
        self._by_length = LengthOrder(order, split.lengths, split.bucket_lengths, split.sort_window)

    @property
    def resident(self) -> dict[str, np.ndarray]:
        propensity = self._split.inverse_propensity
        return {"inverse_propensity": propensity} if self._evaluates and propensity is not None else {}

    def rows(self, step: int) -> Rows:
        return self._by_length.rows(step)

    def equal_steps(self, step: int) -> int:
        """How many steps from `step` to the epoch's end have batches of one size and length."""
        return self._by_length.equal_steps(step)

    def chunk(self, step: int, count: int) -> dict[str, np.ndarray]:
        if count > self.equal_steps(step):
            raise ValueError(f"steps {step} to {step + count - 1} differ in length or size, and are no chunk")
        rows = [self._by_length.rows(s) for s in range(step, step + count)]
        local = local_slice(len(rows[0].index), self.process_index, self.process_count)
        index = np.stack([row.index[local] for row in rows])
        documents, split = index.ravel(), self._split
        piece = split.inputs(documents, self._by_length.length(step))
        label = columns_of(split.labels, documents, split.label_width, split.listed)
        piece["label"] = label[:, 0] if split.single_label else label
        if self._graded:
            piece["target"] = values_of(split.labels, documents, split.label_width, self._listed_values)
        if self._evaluates:
            piece["index"] = documents.astype(np.int32)
            if self._filter_width:
                piece["filtered"] = columns_of(split.filtered, documents, self._filter_width)
        shaped = {name: value.reshape(*index.shape, *value.shape[1:]) for name, value in piece.items()}
        return {**shaped, "weight": np.stack([row.weight[local] for row in rows])}

    @staticmethod
    def batch(resident: dict[str, jax.Array], piece: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {**piece, **resident}

    @functools.cached_property
    def _listed_values(self) -> np.ndarray | None:
        """The values of the labels in the order of the split's `listed`."""
        split = self._split
        return None if split.listed is None else in_order(split.labels, split.listed)

    @functools.cached_property
    def _filter_width(self) -> int:
        return 0 if self._split.filtered is None else int(np.diff(self._split.filtered.indptr).max(initial=0))
