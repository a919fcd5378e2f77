"""Classes by their frequency."""

import numpy as np
import pytest

from mhe_jax.evaluation.bands import bands_of


def test_thirds_are_equal_and_equal_classes_keep_their_order():
    counts = np.array([7, 1, 7, 3, 2, 7, 0])
    assert bands_of(counts, "thirds").tolist() == [0, 2, 0, 1, 1, 0, 2]


def test_boundaries_are_those_of_the_literature():
    counts = np.array([101, 100, 20, 19])
    assert bands_of(counts, "100,20").tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("bands", ["halves", "20,100", "100", "5,0", "a,b"])
def test_bands_that_are_none_are_an_error(bands):
    with pytest.raises(ValueError, match="config.eval_bands is .* it must be 'thirds', or two numbers"):
        bands_of(np.arange(4), bands)
