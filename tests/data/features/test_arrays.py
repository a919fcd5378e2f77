"""Matrices of features: what is read, that it is not copied, and one line for each thing that is wrong."""

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.features import arrays


def saved(tmp_path, features):
    np.save(tmp_path / "features.npy", features)
    return tmp_path / "features.npy"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_matrix_is_a_memory_map(tmp_path, dtype):
    features = np.arange(21).reshape(7, 3).astype(dtype)
    found = arrays.open_features(saved(tmp_path, features))
    assert isinstance(found.base, np.memmap)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, features)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((3, 2)), r"holds float64 \[3, 2\]; features must be float16 or float32 \[N, D\]"),
        (np.zeros((3, 2), np.int32), r"holds int32 \[3, 2\]"),
        (np.zeros((3, 2), ">f4"), r"holds >f4 \[3, 2\]; .* byte order"),
        (np.zeros((3, 2, 1), np.float16), r"holds float16 \[3, 2, 1\]"),
        (np.zeros(3, np.float16), r"holds float16 \[3\]"),
        (np.asfortranarray(np.zeros((3, 2), np.float32)), "is in Fortran order"),
        (np.zeros((0, 2), np.float32), "(has 0 rows of 2 features|is not a readable .npy file)"),
        (np.zeros((3, 0), np.float32), "(has 3 rows of 0 features|is not a readable .npy file)"),
        (np.full((3, 2), None), "is not a readable .npy file: .*"),
    ],
    ids=["float64", "int", "byte order", "rank 3", "rank 1", "fortran", "no rows", "no columns", "objects"],
)
def test_anything_else_is_an_error_that_names_the_file(tmp_path, features, message):
    path = saved(tmp_path, features)
    with pytest.raises(DataError, match=rf"features\.npy {message}") as error:
        arrays.open_features(path)
    assert "\n" not in str(error.value)


def test_a_cut_file_and_a_missing_one_are_named(tmp_path):
    path = saved(tmp_path, np.zeros((100, 3), np.float32))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"features\.npy is not a readable \.npy file"):
        arrays.open_features(path)
    with pytest.raises(DataError, match=r"none\.npy: cannot be read: No such file"):
        arrays.open_features(tmp_path / "none.npy")


def test_another_width_than_the_known_one_is_named(tmp_path):
    with pytest.raises(DataError, match=r"has 3 features a row, but 4 are expected \(config\.data\.features_dim\)"):
        arrays.open_features(saved(tmp_path, np.zeros((2, 3), np.float32)), width=4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_first_row_that_is_not_finite_is_named(tmp_path, monkeypatch, value, dtype):
    """In the last of several blocks."""
    monkeypatch.setattr(arrays, "_BLOCK", 64)
    features = np.ones((50, 4), dtype)
    path = saved(tmp_path, features)
    arrays.require_finite(path, arrays.open_features(path))
    features[[47, 48], [3, 0]] = value
    path = saved(tmp_path, features)
    with pytest.raises(DataError, match=r"features\.npy: row 47 holds a NaN or an infinity"):
        arrays.require_finite(path, arrays.open_features(path))
    np.testing.assert_array_equal(np.flatnonzero(arrays.not_finite(features)), [47, 48])
