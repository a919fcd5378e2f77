"""The bag of embeddings: a sparse matrix product, with what a row drops and how long it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.models.features.bag import Bag

IDS = jnp.array([[3, 0, 7, 0], [5, 0, 0, 0], [0, 0, 0, 0]])
VALUES = jnp.array([[0.5, 2.0, -1.0, 0.0], [4.0, 0, 0, 0], [0, 0, 0, 0]])


def dense():
    return np.zeros((3, 9)) + np.array([[2.0, 0, 0, 0.5, 0, 0, 0, -1, 0], [0, 0, 0, 0, 0, 4, 0, 0, 0], [0] * 9])


def made(**fields):
    bag = Bag(input_dim=9, features_dim=6, **fields)
    return bag, bag.init(jax.random.key(0), IDS, VALUES, train=False)


def test_it_is_the_product_with_the_table():
    bag, variables = made(unit_rows=False)
    found = bag.apply(variables, IDS, VALUES, train=False)
    np.testing.assert_allclose(found, dense() @ np.asarray(variables["params"]["embedding"]), rtol=1e-5, atol=1e-6)


def test_rows_are_scaled_to_length_1():
    bag, variables = made()
    rows = dense() / np.maximum(np.linalg.norm(dense(), axis=1, keepdims=True), 1e-12)
    found = bag.apply(variables, IDS, VALUES, train=False)
    np.testing.assert_allclose(found, rows @ np.asarray(variables["params"]["embedding"]), rtol=1e-5, atol=1e-6)


def test_the_gradient_reaches_the_features_of_the_batch_alone():
    bag, variables = made(unit_rows=False)
    grads = jax.grad(lambda v: bag.apply(v, IDS, VALUES, train=False).sum())(variables)["params"]["embedding"]
    np.testing.assert_allclose(grads, np.repeat(dense().sum(axis=0)[:, None], 6, axis=1), rtol=1e-6)


def test_the_residual_block_adds_what_is_positive():
    bag, variables = made(residual=True)
    found = bag.apply(variables, IDS, VALUES, train=False)
    plain = Bag(input_dim=9, features_dim=6).apply(
        {"params": {"embedding": variables["params"]["embedding"]}}, IDS, VALUES, train=False
    )
    assert (found >= plain - 1e-6).all()
    assert (found > plain + 1e-6).any()


@pytest.mark.parametrize("field", ["feature_dropout", "dropout"])
def test_dropout_is_of_training_alone(field):
    bag, variables = made(**{field: 0.5})
    plain = bag.apply(variables, IDS, VALUES, train=False)
    first, second = (bag.apply(variables, IDS, VALUES, train=True, rngs={"dropout": jax.random.key(i)}) for i in (1, 2))
    assert (first != second).any()
    np.testing.assert_array_equal(bag.apply(variables, IDS, VALUES, train=False), plain)


def test_half_precision_leaves_the_table_whole():
    bag, variables = made(dtype=jnp.bfloat16)
    found = bag.apply(variables, IDS, VALUES, train=False)
    assert found.dtype == jnp.bfloat16
    assert variables["params"]["embedding"].dtype == jnp.float32


@pytest.mark.parametrize("field", ["feature_dropout", "dropout"])
def test_a_dropout_that_is_no_share_is_an_error(field):
    with pytest.raises(ValueError, match=rf"config.backbone.{field} is 1.0; it must be in \[0, 1\)"):
        Bag(**{field: 1.0})
