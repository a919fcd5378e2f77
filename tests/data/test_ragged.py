import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.ragged import pad_rows, top_of


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


@pytest.mark.parametrize("k", [1, 3, 11])
def test_top_of_against_plain_sorting(k):
    rng = np.random.default_rng(0)
    matrix = scipy.sparse.random(17, 29, 0.2, "csr", rng=rng, dtype=np.float32)
    matrix.data[:] = np.ceil(matrix.data * 4) / 4  # many ties
    ids, scores = top_of(matrix, k)
    for row in range(17):
        entries = zip(matrix[row].indices.tolist(), matrix[row].data.tolist(), strict=True)
        best = sorted(entries, key=lambda entry: (-entry[1], entry[0]))[:k]
        fill = k - len(best)
        assert ids[row].tolist() == [label for label, _ in best] + [-1] * fill
        assert scores[row].tolist() == [score for _, score in best] + [0.0] * fill
