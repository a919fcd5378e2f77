import math

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data import propensity
from mhe_jax.recipes import propensity as constants
from mhe_jax.recipes.files import load_config


def test_figures_worked_out_by_hand():
    # Four documents; the labels have 4, 1, 2 and 0 of them.
    labels = scipy.sparse.csr_matrix([[1, 0, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]], dtype=np.float32)
    # A = 0.5 and B = 0.4: C = (ln 4 - 1) sqrt(1.4) = 0.386294 * 1.183216 = 0.457070.
    expected = [1 + 0.457070 / math.sqrt(n + 0.4) for n in (4, 1, 2, 0)]
    found = propensity.inverse_propensity(labels, *constants.WIKIPEDIA)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(found[1], 1.386294, rtol=1e-5)  # n = 1 cancels B: 1 + ln 4 - 1


@pytest.mark.parametrize("constants", [constants.WIKIPEDIA, constants.AMAZON, constants.DEFAULT])
def test_it_is_the_inverse_of_the_published_propensity(constants):
    """p = 1 / (1 + C exp(-A ln(n + B))), as the paper writes it."""
    a, b = constants
    rng = np.random.default_rng(0)
    dense = rng.random((101, 23)) < rng.random(23) ** 3
    found = propensity.inverse_propensity(scipy.sparse.csr_matrix(dense.astype(np.float32)), a, b)
    for label, count in enumerate(dense.sum(axis=0)):
        c = (math.log(101) - 1) * (b + 1) ** a
        assert 1 / found[label] == pytest.approx(1 / (1 + c * math.exp(-a * math.log(count + b))), rel=1e-6)
    assert (found >= 1).all()


def test_documents_are_counted_not_relevances():
    graded = scipy.sparse.csr_matrix([[0.2, 3.0], [0.5, 0.0], [0.1, 0.0]])
    stored_zero = scipy.sparse.csr_matrix((np.array([1.0, 1, 1, 1, 0]), ([0, 1, 2, 0, 1], [0, 0, 0, 1, 1])))
    expected = propensity.inverse_propensity(scipy.sparse.csr_matrix([[1, 1], [1, 0], [1, 0]]), 0.55, 1.5)
    np.testing.assert_array_equal(propensity.inverse_propensity(graded, 0.55, 1.5), expected)
    np.testing.assert_array_equal(propensity.inverse_propensity(stored_zero, 0.55, 1.5), expected)


@pytest.mark.parametrize("documents", [1, 2])
def test_very_few_documents_give_one(documents):
    labels = scipy.sparse.csr_matrix(np.eye(documents, 5))
    np.testing.assert_array_equal(propensity.inverse_propensity(labels, 0.55, 1.5), np.ones(5))


def test_no_documents_are_refused():
    with pytest.raises(ValueError, match="need training documents"):
        propensity.inverse_propensity(scipy.sparse.csr_matrix((0, 5)), 0.55, 1.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eurlex4k", (0.55, 1.5)),
        ("wiki31k", (0.55, 1.5)),
        ("amazoncat13k", (0.55, 1.5)),
        ("wiki500k", (0.5, 0.4)),
        ("amazon670k", (0.6, 2.6)),
        ("amazon3m", (0.6, 2.6)),
    ],
)
def test_each_config_takes_the_constants_that_its_figures_are_published_with(name, expected):
    assert load_config(f"configs/xmc_{name}.py").data.propensity == expected
