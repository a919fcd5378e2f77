"""Codes without a class: no head ranks them, and the others share all of the probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads import build_head
from mhe_jax.labels import LabelSpace

CLASSES, DIM = 31, 6
# A whole group, the first code, the last one, and one in between.
FREE = (0, 10, 11, 12, 13, 14, 17, 30)
LIVE = [code for code in range(CLASSES) if code not in FREE]
HEADS = {
    "ohe": {},
    "tail": {"name": "ohe", "frequent": 12, "bottleneck": 3},
    "mhs": {},
    "mhp": {},
    "mhp8": {"name": "mhp", "rank": 8, "num_candidates": 2},
    "joint": {"name": "mhc", "objective": "candidates", "hidden_dim": 4},
    "path": {"name": "mhc", "hidden_dim": 4},
    "three": {"name": "mhp", "rank": 3, "head_sizes": (2, 4, 4)},
}


def heads(case):
    """The head without free codes and with them, and parameters."""
    fields = {"name": case, "head_sizes": (31,) if case in ("ohe", "tail") else (7, 5), **HEADS[case]}
    name, sizes = fields.pop("name"), fields.pop("head_sizes")
    made = [build_head(name, LabelSpace(CLASSES, sizes, free), DIM, **fields) for free in ((), FREE)]
    features = jax.random.normal(jax.random.key(1), (9, DIM)) * 3
    params = made[0].init(jax.random.key(0), features, 1, method="topk")
    return made, jax.tree.map(lambda x: x * 3, params), features


@pytest.mark.parametrize("case", HEADS)
@pytest.mark.parametrize("k", [5, len(LIVE)])
def test_a_ranking_is_that_of_the_others_alone(case, k):
    (whole, some), params, features = heads(case)
    ids = jnp.broadcast_to(jnp.arange(CLASSES), (len(features), CLASSES))
    logits = whole.apply(params, features, ids, method="scores")[:, np.array(LIVE)]
    if case == "path":  # each level of a path is a softmax of its own
        logits = some.apply(params, features, ids, method="scores")[:, np.array(LIVE)]
    expected = jax.nn.log_softmax(logits, axis=1)
    best, at = jax.lax.top_k(expected, k)
    scores, found = some.apply(params, features, k, method="topk")
    np.testing.assert_array_equal(found, np.array(LIVE)[at])
    np.testing.assert_allclose(scores, best, atol=2e-5)
    np.testing.assert_allclose(
        some.apply(params, features, ids, method="scores")[:, np.array(LIVE)], expected, atol=2e-5
    )


@pytest.mark.parametrize("case", HEADS)
def test_more_classes_than_are_left_is_an_error(case):
    (_, some), params, features = heads(case)
    with pytest.raises(ValueError, match=f"there are {len(LIVE)}"):
        some.apply(params, features, len(LIVE) + 1, method="topk")


@pytest.mark.parametrize("case", ["ohe", "mhp", "mhp8", "path"])
def test_a_loss_is_that_of_the_others_alone(case):
    (_, some), params, features = heads(case)
    labels = jnp.array(LIVE)[jnp.arange(len(features))]
    loss, _ = some.apply(params, features, labels, method="loss")
    scores = some.apply(params, features, labels[:, None], method="scores")
    np.testing.assert_allclose(loss, -scores[:, 0], atol=2e-5)


def test_a_row_without_a_label_has_a_finite_loss_where_the_first_group_is_free():
    head = build_head("mhc", LabelSpace(8, (2, 4), free=(0, 1, 2, 3)), DIM, hidden_dim=4)
    features, labels = jnp.ones((2, DIM)), jnp.array([-1, 5])
    params = head.init(jax.random.key(0), features, labels)
    assert np.isfinite(head.apply(params, features, labels)).all()
