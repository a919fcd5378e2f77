"""Ranking metrics of the task, with labels that evaluation leaves out."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data.texts.synthetic import SyntheticText
from mhe_jax.heads import build_head
from mhe_jax.labels import LabelSpace
from mhe_jax.models import build_backbone
from mhe_jax.tasks.multilabel import MultiLabel

LABELS = 23


def make_task():
    width = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8, "max_positions": 8}
    backbone = build_backbone(ConfigDict({"name": "bert", "vocab_size": 31, **width}), jnp.float32)
    head = build_head(ConfigDict({"name": "ohe"}), LabelSpace(LABELS, (LABELS,)), 8, kind="multilabel")
    return MultiLabel(backbone, head, SyntheticText(num_classes=LABELS).example)


def test_filtered_labels_neither_rank_nor_count():
    task, rng = make_task(), np.random.default_rng(0)
    params, stats = task.init(jax.random.key(0))
    weights = {"params": params, "batch_stats": stats}
    labels = rng.permuted(np.tile(np.arange(LABELS), (9, 1)), axis=1)[:, :6]
    labels[3] = -1
    filtered = np.concatenate([labels[:, :1], rng.integers(LABELS, size=(9, 1))], axis=1)
    filtered[5] = -1
    labels[6, 1:] = -1
    batch = {
        "input_ids": rng.integers(31, size=(9, 8)).astype(np.int32),
        "length": rng.integers(1, 9, size=9).astype(np.int32),
        "label": labels.astype(np.int32),
        "filtered": filtered.astype(np.int32),
        "inverse_propensity": (1 + rng.random(LABELS)).astype(np.float32),
    }
    batch = jax.tree.map(jnp.asarray, batch)
    found = task.evaluate(weights, batch)
    scores, ids = task.predict(weights, batch, LABELS)
    dense = np.empty((9, LABELS))
    np.put_along_axis(dense, np.asarray(ids), np.asarray(scores), axis=1)
    for k in (1, 3, 5):
        numerator = denominator = 0
        for row in range(9):
            dropped = set(filtered[row][filtered[row] >= 0])
            ranking = [label for label in np.argsort(-dense[row]) if label not in dropped][:k]
            numerator += len(set(ranking) & (set(labels[row]) - dropped - {-1})) / k
            # One without labels is not counted, but one whose labels are all left out is.
            denominator += row != 3
        values = found[f"P@{k}"]
        np.testing.assert_allclose(values[0].sum() / values[1].sum(), numerator / denominator, rtol=1e-6)
