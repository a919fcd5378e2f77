"""What several processes decide together when a run has to go back: batches left out, damaged checkpoints."""

import json
import os
import subprocess
import sys

import pytest

from launch.local import free_port
from tests.multiprocess.launched import ROOT
from tests.train.saved import assert_same, final_weights

# Process NUMBER of two with two devices each; batch 4 of the data is poisoned, as in tests/train/test_skips.py.
RUN = """
import json, pathlib, sys
number, port, workdir = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
from mhe_jax.train.parallel import distributed
distributed.initialize(f"127.0.0.1:{port}", 2, number, False, heartbeat_seconds=20, peer_seconds=60)
from tests.train.test_skips import DATA, Poisoned, small, train_and_evaluate
DATA["poisoned"] = Poisoned
config = small(total_steps=8, checkpoint_every_steps=2, on_non_finite="rollback")
config.data.update(name="poisoned", num_examples=32 * 20)
print(json.dumps(train_and_evaluate(config, workdir)["skipped_batches"]))
"""


def run_both(workdir):
    """Standard output and error of each process."""
    port = str(free_port())
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(number), port, str(workdir)],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    said = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], said[0][1][-3000:] + said[1][1][-3000:]
    return said


@pytest.mark.slow
def test_two_processes_roll_back_together_and_pass_over_a_damaged_checkpoint(tmp_path):
    workdir = tmp_path / "run"
    (first, _), (second, _) = run_both(workdir)
    assert "the loss is nan in steps 5 to 5: back to the last checkpoint" in first
    assert first.splitlines()[-1] == second.splitlines()[-1] == "[[4, 5]]"
    assert json.loads((workdir / "result.json").read_text())["step"] == 8
    before = final_weights(workdir)

    # Each process reads half of the files; the verdict is that of both.
    arrays = max((workdir / "checkpoints" / "8" / "state").rglob("*"), key=lambda path: path.stat().st_size)
    arrays.write_bytes(arrays.read_bytes()[:-1])
    for out, err in run_both(workdir):
        assert "the checkpoint of step 6 is used instead" in err
        assert out.splitlines()[-1] == "[[4, 5]]"
    assert sorted(path.name for path in (workdir / "damaged").iterdir()) == ["8"]
    assert_same(before, final_weights(workdir))
