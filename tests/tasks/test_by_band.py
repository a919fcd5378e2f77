"""Figures by the frequency of the classes, as pairs that are summed up."""

import jax.numpy as jnp
import numpy as np

from mhe_jax.tasks import by_band


def ratios(pairs):
    return {name: float(a.sum() / b.sum()) for name, (a, b) in pairs.items()}


def test_accuracy_by_band_and_over_the_classes():
    labels, hits = jnp.array([0, 0, 0, 0, 1, 2, 2]), jnp.array([1.0, 1, 1, 0, 0, 1, 0])
    classes = {"band": jnp.array([0, 1, 2]), "eval_count": jnp.array([4, 1, 2])}
    found = ratios(by_band.of_labels("top1", hits, labels, classes))
    np.testing.assert_allclose(found.pop("macro_top1"), (0.75 + 0 + 0.5) / 3, rtol=1e-6)
    assert found == {"top1_head": 0.75, "top1_medium": 0.0, "top1_tail": 0.5}


def test_recall_by_band_counts_each_label_of_a_document():
    ids, labels = jnp.array([[5, 1, 2, 3], [0, 1, 2, 4]]), jnp.array([[1, 2, -1], [3, 4, 0]])
    classes = {"band": jnp.array([0, 0, 1, 1, 2, 2])}
    found = by_band.of_rankings(ids, labels, 3, classes)
    assert ratios(found) == {"R@3_head": 1.0, "R@3_medium": 0.5, "R@3_tail": 0.0}
