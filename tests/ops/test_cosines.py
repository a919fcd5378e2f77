"""Blocked cosines against the whole matrix of them, at sizes that no block divides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.ops import cosines
from mhe_jax.ops.lengths import safe_normalize

SCALE, BATCH, DIM = 7.0, 5, 6
HARD = cosines.HardNegatives(jnp.linspace(-0.5, 0.5, BATCH), jnp.float32(0.3))


def inputs(num_rows, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    queries, _ = safe_normalize(jax.random.normal(keys[0], (BATCH, DIM)))
    table = 3 * jax.random.normal(keys[1], (num_rows, DIM))
    labels = jax.random.randint(keys[2], (BATCH,), 0, num_rows).at[0].set(num_rows - 1).at[1].set(-1)
    return queries, table, labels, jnp.arange(num_rows) != 2


def oracle(queries, table, labels, mask, hard):
    """Own cosines and the log-sum-exp over the others, from the matrix."""
    units = table / jnp.linalg.norm(table, axis=1, keepdims=True)
    matrix = queries @ units.T
    own_at = labels[:, None] == jnp.arange(len(table))[None, :]
    shown = matrix
    if hard is not None:
        boosted = matrix * (hard.boost + matrix)
        shown = jnp.where(matrix > hard.threshold[:, None], boosted, matrix)
    others = jnp.where(own_at | ~mask[None, :], -jnp.inf, SCALE * shown)
    return jnp.where(own_at, matrix, 0.0).sum(axis=1), jax.nn.logsumexp(others, axis=1)


@pytest.mark.parametrize("hard", [None, HARD], ids=["plain", "hard"])
@pytest.mark.parametrize(("num_rows", "block_size"), [(13, 4), (13, 13), (7, 0), (11, 10)])
def test_values_and_gradients_are_those_of_the_whole_matrix(num_rows, block_size, hard):
    queries, table, labels, mask = inputs(num_rows)
    weights = jnp.linspace(0.5, 2.0, BATCH)

    def total(function):
        def loss(queries, table):
            own, lse = function(queries, table)
            return own @ weights + lse @ weights[::-1]

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(queries, table)

    found = total(lambda q, t: cosines.own_and_others(q, t, labels, mask, SCALE, hard, block_size))
    expected = total(lambda q, t: oracle(q, t, labels, mask, hard))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


@pytest.mark.parametrize("hard", [None, HARD], ids=["plain", "hard"])
@pytest.mark.parametrize(("classes", "centers", "block_size"), [(13, 3, 4), (13, 2, 13), (7, 4, 0), (5, 3, 1)])
def test_the_nearest_of_several_centers_stands_for_a_class(classes, centers, block_size, hard):
    queries, table, _, _ = inputs(classes * centers)
    labels = jnp.array([classes - 1, 0, 1, 0, 3])
    mask = jnp.arange(classes) != 2
    weights = jnp.linspace(0.5, 2.0, BATCH)

    def of_matrix(queries, table):
        units = table / jnp.linalg.norm(table, axis=1, keepdims=True)
        matrix = (queries @ units.T).reshape(BATCH, classes, centers).max(axis=2)
        shown = matrix if hard is None else hard.apply(matrix)
        own_at = labels[:, None] == jnp.arange(classes)[None, :]
        others = jnp.where(own_at | ~mask[None, :], -jnp.inf, SCALE * shown)
        return jnp.where(own_at, matrix, 0.0).sum(axis=1), jax.nn.logsumexp(others, axis=1)

    def blocked(queries, table):
        rows = labels * centers, jnp.repeat(mask, centers)
        return cosines.own_and_others(queries, table, *rows, SCALE, hard, block_size, centers=centers)

    def total(function):
        def loss(queries, table):
            own, lse = function(queries, table)
            return own @ weights + lse @ weights[::-1]

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(queries, table)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), total(blocked), total(of_matrix))


def test_a_zero_row_and_a_zero_query_have_cosine_zero_and_finite_gradients():
    queries, table, labels, mask = inputs(7)
    queries, table = queries.at[3].set(0), table.at[4].set(0)
    labels = labels.at[2].set(4)
    loss = lambda q, t: sum(x.sum() for x in cosines.own_and_others(q, t, labels, mask, SCALE))
    own, _ = cosines.own_and_others(queries, table, labels, mask, SCALE)
    assert own[2] == own[3] == 0
    assert all(jnp.isfinite(grad).all() for grad in jax.grad(loss, (0, 1))(queries, table))


def test_without_another_class_nothing_flows():
    queries, table, _, _ = inputs(3)
    mask, labels = jnp.array([False, True, False]), jnp.ones(BATCH, jnp.int32)
    own, lse = cosines.own_and_others(queries, table, labels, mask, SCALE)
    assert (lse == -jnp.inf).all()
    # What a softmax makes of it: log(1 + exp(-inf - own)).
    loss = lambda q, t: jax.nn.softplus(jnp.subtract(*cosines.own_and_others(q, t, labels, mask, SCALE)[::-1])).sum()
    assert loss(queries, table) == 0
    assert all((grad == 0).all() for grad in jax.grad(loss, (0, 1))(queries, table))
    assert jnp.isfinite(own).all()


def test_a_cosine_that_rounding_put_above_its_log_sum_exp_has_a_finite_gradient():
    """Where the backward pass computes a scaled cosine of 1e20 again, its last digit may come out differently."""
    queries, table, labels, mask = inputs(13)
    _, lse = cosines.own_and_others(queries, table, labels, mask, 1e20)
    residuals = queries, table, labels, mask, None, None, None, lse * jnp.float32(1 - 1e-6), None
    gradients = cosines._backward(1e20, 4, 1, residuals, (jnp.ones(BATCH), jnp.full(BATCH, 1e-20)))
    assert all(jnp.isfinite(gradient).all() for gradient in gradients[:2])
