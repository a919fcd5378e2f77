"""The features of a whole split, as evaluation has them: one pass, batch after batch."""

import collections
import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from mhe_jax.data.feeds import eval_feed
from mhe_jax.train.parallel.mesh import CHUNK, place, replicate, shares, whole


class Embedded(NamedTuple):
    """The examples of one batch.

    rows: int [B], their numbers. features: float32 [B, D]. labels: int32 [B], or [B, W] padded with -1.
    """

    rows: np.ndarray
    features: np.ndarray
    labels: np.ndarray


def embedded(
    task: Any, weights: dict, split: Any, batch_size: int, mesh: Mesh, first_step: int = 0
) -> Iterator[Embedded]:
    """Each example of a split once, on every process; the order is the same in each pass.

    Args:
      task: a backbone and a head.
      weights: {'params', 'batch_stats'} on the mesh, of which the head's are not used.
      split: with ids as labels.
      batch_size: over all devices.
      mesh: the ambient one.
      first_step: batches that are left out.
    """
    feed = eval_feed(split, batch_size, **shares(mesh))
    resident = replicate(mesh, feed.resident)

    def of_batch(weights: dict, resident: dict, chunk: dict) -> dict:
        batch = feed.batch(resident, jax.tree.map(lambda part: part[0], chunk))
        found = {name: batch[name] for name in ("label", "weight", "index") if name in batch}
        return {"features": task.embed(weights, task.asked(batch)), **found}

    def on_host(step: int, found: dict) -> Embedded:
        found = jax.device_get(found)
        real = np.flatnonzero(found["weight"])
        # A feed with an order of its own says which examples a batch has.
        rows = found["index"] if "index" in found else feed.order.rows(step).index
        return Embedded(rows[real], found["features"][real], found["label"][real])

    program = jax.jit(of_batch, out_shardings=whole(mesh))
    with contextlib.closing(feed):
        running: collections.deque = collections.deque()
        for step in range(first_step, feed.steps_per_epoch):
            running.append((step, program(weights, resident, place(mesh, feed.chunk(step, 1), CHUNK))))
            if len(running) > 1:  # the devices work on one while the last is used
                yield on_host(*running.popleft())
        while running:
            yield on_host(*running.popleft())
