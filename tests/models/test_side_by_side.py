"""A network and a bag side by side: each part, their lengths, and gradients of documents without words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.models.features.bag import Bag
from mhe_jax.models.features.identity import Identity
from mhe_jax.models.features.side_by_side import SideBySide

FEATURES = jnp.array(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
IDS = jnp.array([[3, 1], [5, 0], [0, 0]])
VALUES = jnp.array([[0.5, 2.0], [4.0, 0.0], [0.0, 0.0]])


def made(**fields):
    module = SideBySide(Identity(4, layer_norm=True), Bag(9, features_dim=6), **fields)
    return module, module.init(jax.random.key(0), FEATURES, IDS, VALUES, train=False)


def test_both_parts_stand_one_after_the_other():
    module, variables = made()
    found = module.apply(variables, FEATURES, IDS, VALUES, train=False)
    parts = variables["params"]
    expected = [
        module.network.clone(parent=None).apply({"params": parts["network"]}, FEATURES, False),
        module.bag.clone(parent=None).apply({"params": parts["bag"]}, IDS, VALUES, False),
    ]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-6)
    assert module.features_dim == found.shape[1] == 10


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_parts_have_one_length(dtype):
    module, variables = made(part_length=3.0, dtype=dtype)
    found = np.asarray(module.apply(variables, FEATURES, IDS, VALUES, train=False), np.float32)
    np.testing.assert_allclose(np.linalg.norm(found[:, :4], axis=1), 3, rtol=1e-2)
    np.testing.assert_allclose(np.linalg.norm(found[:, 4:], axis=1), [3, 3, 0], rtol=1e-2)


def test_a_document_without_words_has_a_gradient_of_zeros():
    module, variables = made(part_length=3.0)
    loss = lambda v, values: module.apply(v, FEATURES, IDS, values, train=False)[2].sum()
    of_all, of_values = jax.grad(loss, argnums=(0, 1))(variables, VALUES)
    np.testing.assert_array_equal(of_all["params"]["bag"]["embedding"], 0)
    assert np.isfinite(of_values).all()


def test_an_impossible_length_is_an_error():
    with pytest.raises(ValueError, match=r"config\.backbone\.part_length is -1; it must be at least 0"):
        made(part_length=-1)
