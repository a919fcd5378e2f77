"""A run under launch/local.py, for tests that start, watch and hurt its processes."""

import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from mhe_jax.train.reporting import writers

ROOT = pathlib.Path(__file__).parent.parent.parent


class Launched:
    """A started run; its output goes to a file, so that no pipe can fill up."""

    def __init__(self, log, processes, devices, *flags, grace=60):
        self._log = pathlib.Path(log)
        launcher = [sys.executable, "launch/local.py", f"--processes={processes}", f"--devices={devices}"]
        with self._log.open("w") as file:
            self.process = subprocess.Popen(
                [*launcher, f"--grace={grace}", "--", *flags],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self):
        return self._log.read_text()

    def pid(self, number):
        """The process id of process `number` of the run."""
        self.wait_for(lambda: f"process {number} has pid" in self.output)
        return int(re.search(rf"process {number} has pid (\d+)", self.output)[1])

    def wait_for(self, condition, seconds=180):
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.output[-5000:]
            assert time.monotonic() < deadline, f"timed out: {self.output[-5000:]}"
            time.sleep(0.05)

    def wait(self, seconds=180):
        """The launcher's exit code, and the seconds that it took to end."""
        started = time.monotonic()
        code = self.process.wait(timeout=seconds)
        return code, time.monotonic() - started


def run(log, processes, devices, *flags):
    """Runs to the end and returns the output."""
    launched = Launched(log, processes, devices, *flags)
    code, _ = launched.wait(600)
    assert code == 0, launched.output[-5000:]
    return launched.output


def curve(workdir):
    """(split, step) -> metrics, without what a clock measured."""
    events = writers.read_events(workdir / "metrics.jsonl")
    return {
        (event["split"], event["step"]): {
            k: v for k, v in event.items() if k not in ("split", "examples_per_second", "data_wait")
        }
        for event in events
    }


def assert_same_curve(left, right):
    """Of two workdirs, every figure to 1e-4."""
    left, right = curve(left), curve(right)
    assert left.keys() == right.keys()
    for at, values in right.items():
        assert left[at] == pytest.approx(values, rel=1e-4, abs=1e-4), at
