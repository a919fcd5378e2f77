"""Flax's `apply` is one program in tests, and a module notices nothing."""

import flax.linen as nn
import jax
import numpy as np
import pytest


class Module(nn.Module):
    def __call__(self, x, kind="sum"):
        if kind == "values":
            return float(np.asarray(x).sum())
        if kind == "mistake":
            raise TypeError("no such kind")
        return (x * 2 + 1 - x / 3).sum() if kind == "sum" else kind


def test_one_program_and_the_same_answers():
    seen = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: seen.append(event) if event.endswith("backend_compile_duration") else None
    )
    x = np.arange(7, dtype=np.float32)
    assert Module().apply({}, x) == pytest.approx(42.0)
    assert len(seen) == 1
    assert Module().apply({}, x, "values") == 21.0
    assert Module().apply({}, x, "other") == "other"
    with pytest.raises(TypeError, match="no such kind"):
        Module().apply({}, x, "mistake")
