"""Batches of pictures that lie on the device, and are gathered there."""

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.data.dataset import ArraySplit
from mhe_jax.data.feed import Feed, local_slice
from mhe_jax.data.order import EpochOrder, EvalOrder


class ArrayFeed(Feed):
    """Feeds indices; the images lie on the device and are gathered there. Many labels come with the indices."""

    def __init__(self, split: ArraySplit, order: EpochOrder | EvalOrder, process_index: int, process_count: int):
        super().__init__(order, process_index, process_count)
        self._split, self._evaluates = split, isinstance(order, EvalOrder)
        self.left_out = split.bad_examples

    @property
    def resident(self) -> dict[str, np.ndarray]:
        split = self._split
        if split.many is None:
            return {"image": split.images, "label": split.labels}
        return {"image": split.images, **(split.many.resident if self._evaluates else {})}

    def chunk(self, step: int, count: int) -> dict[str, np.ndarray]:
        rows = [self.order.rows(s) for s in self._steps(step, count)]
        local = local_slice(len(rows[0].index), self.process_index, self.process_count)
        index = np.stack([row.index[local] for row in rows])
        piece = {"index": index.astype(np.int32), "weight": np.stack([row.weight[local] for row in rows])}
        if self._split.many is None:
            return piece
        many = self._split.many.of(self._split.labels[index.ravel()], self._evaluates)
        return {**piece, **{name: value.reshape(*index.shape, -1) for name, value in many.items()}}

    @staticmethod
    def batch(resident: dict[str, jax.Array], piece: dict[str, jax.Array]) -> dict[str, jax.Array]:
        # Indices come from the order and are in range: 'clip' spares the check for others.
        examples = resident.keys() & {"image", "label"}
        gathered = {name: jnp.take(resident[name], piece["index"], axis=0, mode="clip") for name in examples}
        return {**resident, **piece, **gathered}
