"""Weights of classes: their formulas, their scale, and files of them."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.data.class_weights import Counted, build_class_weights, class_weights, read_weights
from mhe_jax.data.dataset import DataError
from mhe_jax.data.propensity import inverse_propensity_of

COUNTS = np.array([50, 10, 0, 40])
COUNTED = Counted(COUNTS, 100, ("a", "b b", "c", "d"), (0.55, 1.5))


def weights(name, **fields):
    return class_weights(build_class_weights(ConfigDict({"name": name, **fields})), COUNTED)


def test_balanced_classes_count_alike_together():
    found = weights("balanced")
    np.testing.assert_allclose(found[[0, 1, 3]], 100 / 3 / COUNTS[[0, 1, 3]], rtol=1e-6)
    np.testing.assert_allclose((found * COUNTS).sum() / 100, 1, rtol=1e-6)


def test_effective_numbers_lie_between_none_and_balanced():
    found = weights("effective_number", beta=0.9)
    expected = 0.1 / (1 - 0.9 ** np.array([50.0, 10, 1, 40]))
    np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-6)
    np.testing.assert_allclose((found * COUNTS).sum() / 100, 1, rtol=1e-6)
    assert (weights("effective_number", beta=0.0) == 1).all()


def test_propensities_are_not_scaled():
    np.testing.assert_allclose(weights("propensity"), 2 * inverse_propensity_of(COUNTS, 100, 0.55, 1.5) - 1)
    assert weights("propensity").min() >= 1
    assert weights("none") is None


def test_a_file_names_some_classes(tmp_path):
    path = tmp_path / "weights.txt"
    path.write_text("b b 2\nd\t0.5\n")
    np.testing.assert_array_equal(read_weights(path, COUNTED.names, 4), [1, 2, 1, 0.5])
    np.testing.assert_allclose(weights("file", path=str(path)), np.array([1, 2, 1, 0.5]) / 0.9, rtol=1e-6)
    path.write_text("2 4\n")
    np.testing.assert_array_equal(read_weights(path, (), 3), [1, 1, 4])  # classes without names


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("e 2", "weights.txt:2: 'e' is none of the 4 classes"),
        ("a 0", "the weight of 'a' is 0; it must be a positive number"),
        ("a -1", "must be a positive number"),
        ("a nan", "must be a positive number"),
        ("a inf", "must be a positive number"),
        ("a much", "weights.txt:2: the line is 'a much'; it must be NAME WEIGHT"),
        ("d 3", "weights.txt:2: 'd' has a weight already"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    (tmp_path / "weights.txt").write_text(f"d 1\n{line}\n")
    with pytest.raises(DataError, match=message):
        read_weights(tmp_path / "weights.txt", COUNTED.names, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "effective_number", "beta": 1.0}, r"class_weights.beta is 1.0; it must be in \[0, 1\)"),
        ({"name": "balanced", "start_epoch": -1.0}, "start_epoch is -1.0; it must be 0 or more"),
        ({"name": "balanced", "beta": 0.5}, "class_weights.beta is 0.5, but class_weights.name = 'balanced' does not"),
        ({"name": "none", "start_epoch": 3.0}, "start_epoch is 3.0, but class_weights.name = 'none'"),
        ({"name": "equal"}, "config.class_weights.name is 'equal'; it must be one of balanced"),
    ],
)
def test_a_bad_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        build_class_weights(ConfigDict(fields))
