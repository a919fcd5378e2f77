"""Batches of features: gathered on the device, or read from the memory map, a batch by one fancy index."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.data.features.dataset import FeatureSplit
from mhe_jax.data.feed import Feed, local_slice
from mhe_jax.data.order import EpochOrder, EvalOrder
from mhe_jax.data.ragged import columns_of, values_of


class FeatureFeed(Feed):
    """Feeds rows of features in any order, without a loop over them.

    A chunk is {'index' int32 [count, b], the number of each row; 'label' int32 [count, b], or of many [count, b, W]
    padded with -1; 'weight' float32 [count, b]}, of `graded` labels with their values as 'target' float32
    [count, b, W], and where the features do not lie on the device with 'features' [count, b, D]. For evaluation of
    many labels also 'filtered' int32 [count, b, F], padded with -1, where a row has labels to leave out; the batch of a
    split with propensities has 'inverse_propensity' float32 [L] too.
    """

    def __init__(
        self,
        split: FeatureSplit,
        order: EpochOrder | EvalOrder,
        process_index: int,
        process_count: int,
        graded: bool = False,
    ):
        super().__init__(order, process_index, process_count)
        self._graded = graded
        self._split, self._evaluates = split, isinstance(order, EvalOrder)

    @property
    def resident(self) -> dict[str, np.ndarray]:
        split = self._split
        found = {"features": split.features} if split.resident else {}
        if self._evaluates and split.inverse_propensity is not None:
            found["inverse_propensity"] = split.inverse_propensity
        return found

    def chunk(self, step: int, count: int) -> dict[str, np.ndarray]:
        rows = [self.order.rows(s) for s in self._steps(step, count)]
        local = local_slice(len(rows[0].index), self.process_index, self.process_count)
        index = np.stack([row.index[local] for row in rows])
        flat, split = index.ravel(), self._split
        piece = {"index": flat.astype(np.int32)}
        if isinstance(split.labels, np.ndarray):
            piece["label"] = split.labels[flat]
        else:
            piece["label"] = columns_of(split.labels, flat, self._label_width)
            if self._graded:
                piece["target"] = values_of(split.labels, flat, self._label_width)
        if self._evaluates and self._filter_width:
            piece["filtered"] = columns_of(split.filtered, flat, self._filter_width)
        if not split.resident:
            piece["features"] = split.features[flat]
        shaped = {name: value.reshape(*index.shape, *value.shape[1:]) for name, value in piece.items()}
        return {**shaped, "weight": np.stack([row.weight[local] for row in rows])}

    @staticmethod
    def batch(resident: dict[str, jax.Array], piece: dict[str, jax.Array]) -> dict[str, jax.Array]:
        batch = {**piece, **resident}
        if "features" in resident:
            # Indices come from the order and are in range: 'clip' spares the check for others.
            batch["features"] = jnp.take(resident["features"], piece["index"], axis=0, mode="clip")
        return batch

    @functools.cached_property
    def _label_width(self) -> int:
        return max(_widest(self._split.labels), 1)

    @functools.cached_property
    def _filter_width(self) -> int:
        return 0 if self._split.filtered is None else _widest(self._split.filtered)


def _widest(matrix) -> int:
    return int(np.diff(matrix.indptr).max(initial=0))
