"""How numbers of tables are kept: exact where they can be, near where they cannot, and right on average."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.ops import storage

KEY = jnp.array([3, 4], jnp.uint32)


@pytest.mark.parametrize("largest", [1e-45, 1e-38, 1e-30, 1e-3, 1.0, 255.0, 256.0, 1e30, 3e38])
def test_rows_of_any_size_are_near(largest):
    rows = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (50, 7)).astype(np.float32) * np.float32(largest))
    for kept in (
        storage.store(rows, "float8"),
        storage.narrow(rows, storage.store(rows, "float8"), jnp.arange(50), KEY),
    ):
        found = np.asarray(storage.widen(kept), np.float64)
        assert np.isfinite(found).all()
        # Three bits of mantissa, or a step of what the row's range leaves to small numbers.
        allowed = np.maximum(
            np.abs(np.asarray(rows)) / 8, 2.0**-15 * np.abs(np.asarray(rows)).max(axis=1, keepdims=True)
        )
        assert (np.abs(found - np.asarray(rows)) <= allowed + 2.0**-126).all()


def test_zeros_stay_zeros():
    rows = jnp.zeros((3, 4))
    kept = storage.narrow(rows, storage.store(rows, "float8"), jnp.arange(3), KEY)
    np.testing.assert_array_equal(storage.widen(kept), rows)
    np.testing.assert_array_equal(kept.scales, [1, 1, 1])


def test_what_a_step_does_not_change_stays_what_it_is():
    rows = storage.widen(storage.store(jax.random.normal(jax.random.key(0), (40, 16)), "float8"))
    kept = storage.narrow(rows, storage.store(rows, "float8"), jnp.arange(40), KEY)
    np.testing.assert_array_equal(storage.widen(kept), rows)


def test_rounding_is_right_on_average():
    row = jnp.array([1.0, 0.3, -0.011, 1e-4, -3e-6])  # down to steps that a scaled row has no number between
    rows = jnp.broadcast_to(row, (100_000, 5))
    kept = storage.narrow(rows, storage.store(rows, "float8"), jnp.arange(100_000), KEY)
    found = np.asarray(storage.widen(kept), np.float64)
    steps = np.asarray([0, 2**-5, 2**-10, 2.0**-16, 2.0**-16])  # between the numbers around each
    assert (np.abs(found.mean(axis=0) - np.asarray(row)) <= 5 * steps / 2 / np.sqrt(len(rows)) + 1e-9).all()
    assert all(len(np.unique(column)) <= 2 for column in found.T)


@pytest.mark.parametrize("name", storage.STORAGES)
def test_a_kept_table_keeps_its_kind(name):
    rows = jax.random.normal(jax.random.key(0), (6, 4))
    kept = storage.store(rows, name)
    again = storage.narrow(rows, kept, jnp.arange(6), KEY)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), again) == jax.tree.map(lambda x: (x.shape, x.dtype), kept)
    assert kept.dtype == storage.STORAGES[name]
