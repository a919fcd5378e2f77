"""Rounding by chance: right on average, between the two neighbours, and the same in whatever pieces it is done."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from mhe_jax.ops.rounding import stochastic_bfloat16

KEY = jnp.array([123, 456], jnp.uint32)


def test_every_number_becomes_one_of_its_two_neighbours():
    x = (np.random.default_rng(0).normal(size=(300, 40)) * 10.0 ** np.arange(-20, 20)).astype(np.float32)
    found = np.asarray(stochastic_bfloat16(jnp.asarray(x), jnp.arange(300), KEY)).astype(np.float64)
    below = (x.view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)  # towards zero
    above = ((x.view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32).astype(np.float64)
    assert ((found == below) | (found == above)).all()
    assert 0.4 < (found == above).mean() < 0.6


def test_the_mean_over_keys_is_the_number():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(16, 8)), jnp.float32)
    keys = jnp.asarray(np.random.default_rng(2).integers(2**32, size=(4000, 2)), jnp.uint32)
    rounded = jax.jit(jax.vmap(lambda key: stochastic_bfloat16(x, jnp.arange(16), key)))(keys)
    steps = np.abs(np.asarray(x)) * 2.0**-7  # as far as two neighbours are apart, at most
    error = np.asarray(rounded, np.float64).mean(axis=0) - np.asarray(x, np.float64)
    # A mean of 4,000 has a standard error of half a step / sqrt(4000) at most.
    assert (np.abs(error) < 5 * 0.5 * steps / np.sqrt(4000)).all()


def test_numbers_that_are_bfloat16_stay_and_infinities_do():
    x = np.random.default_rng(3).normal(size=(50, 6)).astype(ml_dtypes.bfloat16).astype(np.float32)
    x[0] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0]
    found = np.asarray(stochastic_bfloat16(jnp.asarray(x), jnp.arange(50), KEY)).astype(np.float32)
    np.testing.assert_array_equal(found, x)


def test_pieces_are_rounded_as_the_whole_is():
    x, ids = jnp.asarray(np.random.default_rng(4).normal(size=(64, 5)), jnp.float32), jnp.arange(1000, 1064)
    whole = stochastic_bfloat16(x, ids, KEY)
    parts = [stochastic_bfloat16(x[i : i + 16], ids[i : i + 16], KEY) for i in range(0, 64, 16)]
    assert (whole == jnp.concatenate(parts)).all()


def test_places_and_keys_are_independent_of_each_other():
    ones = jnp.full((2000, 64), 1 + 2.0**-8, jnp.float32)  # half-way
    up = lambda key: np.asarray(stochastic_bfloat16(ones, jnp.arange(2000), key) > 1, np.float64)
    first, second = up(KEY), up(KEY.at[0].add(1))
    for a, b in [(first, second), (first[:, :-1], first[:, 1:]), (first[:-1], first[1:])]:
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 5 / np.sqrt(a.size)
