"""What is reported of windows of steps."""

import math

import numpy as np

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
