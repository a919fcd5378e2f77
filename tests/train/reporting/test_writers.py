import json
import math

import numpy as np

from mhe_jax.train.reporting import writers

NAN = float("nan")


def test_numbers_that_json_has_not_become_null():
    values = {"a": NAN, "b": {"c": [1.5, math.inf, "x"], "d": (np.float64(NAN), 2)}, "e": None, "f": True}
    found = writers.finite(values)
    assert found == {"a": None, "b": {"c": [1.5, None, "x"], "d": [None, 2]}, "e": None, "f": True}
    json.dumps(found, allow_nan=False)


def test_a_run_that_measured_nothing_is_written_and_drawn(tmp_path):
    writer = writers.Writer(tmp_path, 0, 2)
    writer.write("eval", 1, 0.5, {"P@1": NAN, "PSP@1": NAN})
    writer.close()
    assert writers.read_events(tmp_path / "metrics.jsonl") == [
        {"step": 1, "epoch": 0.5, "split": "eval", "P@1": None, "PSP@1": None}
    ]
    writers.plot_curves(tmp_path)
    assert (tmp_path / "curves.png").exists()
