import numpy as np
import pytest

from mhe_jax.data.ragged import pad_rows


@pytest.mark.parametrize("width", [0, 1, 5, 7])
def test_rows_are_those_of_a_loop(width):
    rng = np.random.default_rng(width)
    lengths = rng.integers(0, width + 1, 11)
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    values = np.arange(lengths.sum(), dtype=np.int32) + 3
    chosen = rng.permutation(11)[:7]
    padded = pad_rows(values, starts[chosen], lengths[chosen], width, -1)
    assert padded.dtype == np.int32
    expected = [[*values[starts[i] : starts[i] + lengths[i]], *[-1] * (width - lengths[i])] for i in chosen]
    np.testing.assert_array_equal(padded, np.array(expected).reshape(7, width))


def test_nothing_at_all_is_padding():
    empty = np.zeros(0, np.int32)
    np.testing.assert_array_equal(pad_rows(empty, np.zeros(2, int), np.zeros(2, int), 3, 9), np.full((2, 3), 9))
    assert pad_rows(empty, np.zeros(0, int), np.zeros(0, int), 3, 9).shape == (0, 3)
