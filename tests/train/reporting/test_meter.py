"""What is reported of windows of steps."""

import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.train.reporting.meter import Meter


def sums(loss, counted):
    return {
        "loss": np.array([loss, counted], np.float32),
        "examples": np.array([32, 1], np.float32),
        "learning_rate": np.array([0.1, 1], np.float32),
    }


def test_a_last_window_in_which_the_loss_is_not_known_says_nothing_of_it():
    reported = []
    meter = Meter(0, 2, lambda step, values: reported.append((step, values)))
    for step in range(1, 6):
        # A head that values its loss at every second step: the fifth is the last.
        meter.add(step, sums(64.0, 32) if step % 2 == 0 else sums(0.0, 0))
    meter.finish()
    assert [(step, values.get("loss")) for step, values in reported] == [(2, 2.0), (4, 2.0), (5, None)]
    assert all(math.isfinite(value) for _, values in reported for value in values.values())
    assert "loss" not in reported[-1][1]


def rates(iterations, host_seconds, **options):
    """Of a window of two dispatches of so many products, with data that take so long beside the second."""
    reported = []
    loop = lambda x: jax.lax.fori_loop(0, iterations, lambda i, x: x @ x / 200, x)
    busy = jax.jit(lambda x: jnp.stack([loop(x).max(), 1.0]))
    matrix = jnp.ones((200, 200))
    jax.block_until_ready(busy(matrix))
    meter = Meter(0, 2, lambda step, values: reported.append(values), **options)
    for step in (1, 2):
        dispatch = {**sums(64.0, 32), "busy": busy(matrix)}
        if step == 1:
            with meter.fetching(dispatch):
                time.sleep(host_seconds)
        meter.add(step, dispatch)
    meter.finish()
    (values,) = reported
    return values


def test_the_wait_for_data_is_what_the_devices_do_not_hide():
    assert rates(1, 0.5)["data_wait"] > 0.6
    assert rates(1000, 0.0)["data_wait"] == 0.0


def test_without_fetches_and_a_peak_there_is_no_rate_of_them():
    reported = []
    meter = Meter(0, 1, lambda step, values: reported.append(values))
    meter.add(1, sums(64.0, 32))
    meter.finish()
    assert set(reported[0]) == {"loss", "learning_rate", "examples_per_second"}


def test_the_utilization_is_the_time_at_the_peak_over_the_time_taken():
    values = rates(1, 0.2, peak_step_seconds=0.01)
    seconds = 64 / values["examples_per_second"]
    assert values["flops_utilization"] == pytest.approx(2 * 0.01 / seconds)
