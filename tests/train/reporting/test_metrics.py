import jax.numpy as jnp
import numpy as np

from mhe_jax.train.reporting import metrics


def test_padded_rows_count_for_nothing_even_if_they_are_not_finite():
    values = {"loss": jnp.array([1.0, jnp.nan, 3.0, jnp.inf]), "top1": jnp.array([1.0, 1.0, 0.0, 1.0])}
    sums = metrics.weighted(values, jnp.array([1.0, 0.0, 1.0, 0.0]))
    assert metrics.means(sums) == {"loss": 2.0, "top1": 0.5}


def test_merged_batches_equal_one_batch_even_if_their_sizes_differ():
    values, weight = jnp.arange(7.0), jnp.ones(7)
    parts = [metrics.weighted({"x": values[rows]}, weight[rows]) for rows in (slice(0, 4), slice(4, 7))]
    assert metrics.means(metrics.merge(*parts)) == metrics.means(metrics.weighted({"x": values}, weight))


def test_the_empty_dict_is_neutral():
    sums = metrics.weighted({"x": jnp.ones(2)}, jnp.ones(2))
    assert metrics.merge({}, sums) is sums
    assert metrics.merge(sums, {}) is sums


def test_the_mean_of_nothing_is_nan():
    assert np.isnan(metrics.means(metrics.weighted({"x": jnp.ones(2)}, jnp.zeros(2)))["x"])
