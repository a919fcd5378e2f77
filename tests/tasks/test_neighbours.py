"""Neighbours of classes against what a head's weights say of all pairs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads import build_head
from mhe_jax.labels import LabelSpace
from mhe_jax.ops.lengths import safe_normalize
from mhe_jax.ops.margins import ArcFace
from mhe_jax.tasks.base import Task

CLASSES, WIDTH = 23, 8


def task_of(name, kind="softmax", **fields):
    sizes = (CLASSES,) if name == "ohe" else (5, 5)
    head = build_head(name, LabelSpace(CLASSES, sizes), WIDTH, kind=kind, **fields)
    params = nn.meta.unbox(head.init(jax.random.key(0), jnp.zeros((1, WIDTH)), 1, method="topk")["params"])
    params = jax.tree.map(lambda part: jax.random.normal(jax.random.key(part.size), part.shape), params)
    return Task(nn.Dense(1), head), {"params": {"head": params}}


def cosines(rows):
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def test_of_a_one_hot_head_they_are_those_of_its_rows_without_their_mean():
    task, weights = task_of("ohe")
    head = weights["params"]["head"] = {**weights["params"]["head"], "bias": jnp.zeros(CLASSES)}
    rows = np.asarray(head["kernel"]).reshape(-1, WIDTH)[:CLASSES]
    expected = cosines(rows - rows.mean(0))
    found, ids = task.neighbours(weights, jnp.arange(CLASSES), CLASSES - 1)
    for number in range(CLASSES):
        order = [other for other in np.argsort(-expected[number], kind="stable") if other != number]
        np.testing.assert_array_equal(ids[number], order)
        np.testing.assert_allclose(found[number], expected[number, order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "multilabel"])
@pytest.mark.parametrize("name", ["ohe", "mhp", "mhc", "mhs"])
def test_the_cosine_is_that_of_the_gradients(name, kind):
    made, weights = task_of(name, kind)
    ids = jnp.arange(CLASSES)

    def score(features, label):
        return made.head.apply(
            {"params": weights["params"]["head"]}, features[None], jnp.full((1, 1), label), method="scores"
        )[0, 0]

    rows = jax.vmap(jax.grad(score), (None, 0))(jnp.zeros(WIDTH), ids)
    expected = cosines(np.asarray(rows))
    found, near = made.neighbours(weights, ids, 6)
    for number in range(CLASSES):
        kept = near[number] >= 0
        assert kept.sum() >= 5
        assert number not in near[number]
        np.testing.assert_allclose(found[number][kept], expected[number][near[number][kept]], rtol=0, atol=1e-5)
        assert (np.diff(found[number]) <= 0).all()


@pytest.mark.parametrize("name", ["ohe", "mhp", "mhc", "mhs"])
def test_of_a_head_on_cosines_they_are_those_of_unit_rows(name):
    task, weights = task_of(name, margin=ArcFace(scale=16.0))
    params = weights["params"]["head"]
    unit = lambda rows: np.asarray(safe_normalize(rows.reshape(-1, WIDTH))[0])
    ids = np.arange(CLASSES)
    if name in ("ohe", "mhs"):
        rows = unit(*jax.tree.leaves(params))[:CLASSES]
        rows = rows - rows.mean(axis=0)
    elif name == "mhp":
        kernel = unit(params["kernel"])
        # Each digit as often as classes have it.
        rows = kernel[ids // 5] + kernel[5 + ids % 5]
        rows = rows - rows.mean(axis=0)
    else:
        groups, members = unit(params["table_0"]), unit(params["table_1"])[:CLASSES]
        siblings = np.stack([members[ids // 5 == group].mean(axis=0) for group in range(5)])
        rows = (groups - groups.mean(axis=0))[ids // 5] + members - siblings[ids // 5]
    expected = cosines(rows)
    found, near = task.neighbours(weights, jnp.arange(CLASSES), 4)
    assert (found > -1).all()
    np.testing.assert_allclose(found, expected[ids[:, None], near], rtol=0, atol=1e-5)
