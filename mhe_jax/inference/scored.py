"""The best classes of every example of a split with their probabilities, beside the true ones: what decisions need."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from mhe_jax.evaluation.pairs_of_labels import LabelPairs, label_pairs
from mhe_jax.inference.decision import KEPT
from mhe_jax.labels import LabelCodes
from mhe_jax.ops.ranking import drop_filtered, drop_labels
from mhe_jax.train.evaluator import Evaluator, Keep


class Scored(NamedTuple):
    """The N examples of a split.

    ids: int [N, K], classes, best first, -1 where there is none; scores: float32 [N, K], probabilities, 0 where there
    is none. labels: CSR [N, C], the true ones.
    """

    ids: np.ndarray
    scores: np.ndarray
    labels: scipy.sparse.csr_matrix

    @property
    def correct(self) -> np.ndarray:
        """Which of `ids` are true where each example has one class: bool [N, K]."""
        return self.ids == self.labels.indices[:, None]

    def pairs(self, scores: np.ndarray | None = None, best: int | None = None) -> LabelPairs:
        """The pairs of examples and classes, with other scores [N, K] if they are given; of the `best` alone."""
        scores = self.scores if scores is None else scores
        return label_pairs(self.ids[:, :best], scores[:, :best], self.labels)


def keep_scored(task: Any, kept: int = KEPT) -> Keep:
    """What `scored` needs of each batch; XLA computes the features, which the metrics need too, once."""
    k = min(kept, task.head.label_space.num_live)

    def keep(weights: dict, batch: dict) -> dict[str, jax.Array]:
        scores, ids = task.predict(weights, task.asked(batch), k)
        labels = batch["label"].reshape(len(ids), -1)
        if (filtered := batch.get("filtered")) is not None:
            scores, ids = drop_filtered(scores, ids, filtered, k)
            labels = drop_labels(labels, filtered)
        return {"label": labels, "ids": ids, "scores": jnp.exp(scores), "real": batch["weight"] > 0}

    return keep


def scored(evaluator: Evaluator, codes: LabelCodes, num_classes: int) -> Scored:
    """What an evaluator with `keep_scored` has kept; its codes become ids."""
    join = lambda name: np.concatenate([part[name] for part in evaluator.kept])
    real = join("real")
    label, ids = (codes.ids(join(name)[real]) for name in ("label", "ids"))
    row = np.nonzero(label >= 0)[0]
    pairs = np.ones(len(row), np.float32), (row, label[label >= 0])
    labels = scipy.sparse.csr_matrix(pairs, (len(label), num_classes))
    return Scored(ids, np.where(ids < 0, 0, join("scores")[real]).astype(np.float32), labels)
