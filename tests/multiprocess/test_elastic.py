"""A run goes on with another number of processes and devices as if nothing had happened."""

import json

import pytest

from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_face_config
from tests.multiprocess.launched import ROOT, assert_same_curve, run

EVERY = {"log_every_steps": 1, "eval_every_steps": 2, "checkpoint_every_steps": 2}


@pytest.mark.slow
def test_two_processes_then_one_with_eight_three_and_one_devices(tmp_path):
    parts = tmp_path / "parts"
    flags = [f"--config={ROOT / 'tests' / 'tiny_face_config.py'}", f"--workdir={parts}"]
    flags += [f"--config.{name}={value}" for name, value in EVERY.items()]
    layouts = [(2, 4, 4), (1, 8, 8), (1, 3, 3), (1, 1, 1)]
    for i, (processes, devices, classes) in enumerate(layouts):
        steps = 4 * (i + 1)
        if i:
            # The schedule is constant, so that a run may be made longer.
            stored = json.loads((parts / "config.json").read_text())
            (parts / "config.json").write_text(json.dumps({**stored, "total_steps": steps}))
        run(
            tmp_path / "log",
            processes,
            devices,
            *flags,
            f"--config.total_steps={steps}",
            f"--config.mesh.classes={classes}",
        )
        assert json.loads((parts / "result.json").read_text())["device_count"] == processes * devices

    config = tiny_face_config.get_config()
    config.update(EVERY, total_steps=16)
    config.mesh.classes = 4
    whole = train_and_evaluate(config, tmp_path / "whole")
    assert_same_curve(parts, tmp_path / "whole")
    result = json.loads((parts / "result.json").read_text())
    assert result["last"]["accuracy"] == whole["last"]["accuracy"]
