"""Batches of pictures that lie on the device, and are gathered there."""

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.data.dataset import ArraySplit
from mhe_jax.data.feed import Feed, local_slice
from mhe_jax.data.order import EpochOrder, EvalOrder


class ArrayFeed(Feed):
    """Feeds indices; the images lie on the device and are gathered there."""

    def __init__(self, split: ArraySplit, order: EpochOrder | EvalOrder, process_index: int, process_count: int):
        super().__init__(order, process_index, process_count)
        self._split = split
        self.left_out = split.bad_examples

    @property
    def resident(self) -> dict[str, np.ndarray]:
        return {"image": self._split.images, "label": self._split.labels}

    def chunk(self, step: int, count: int) -> dict[str, np.ndarray]:
        rows = [self.order.rows(s) for s in self._steps(step, count)]
        local = local_slice(len(rows[0].index), self.process_index, self.process_count)
        return {
            "index": np.stack([row.index[local] for row in rows]).astype(np.int32),
            "weight": np.stack([row.weight[local] for row in rows]),
        }

    @staticmethod
    def batch(resident: dict[str, jax.Array], piece: dict[str, jax.Array]) -> dict[str, jax.Array]:
        # Indices come from the order and are in range: 'clip' spares the check for others.
        gathered = {name: jnp.take(resident[name], piece["index"], axis=0, mode="clip") for name in ("image", "label")}
        return {**gathered, "weight": piece["weight"]}
