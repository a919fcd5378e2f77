"""Kills a run again and again, in every way and at any moment, and asks whether its result is still the same bits.

    python tests/benchmarks/torture.py --faults=20 --processes=2 --devices=4

One training is run without disturbance, and once more with random faults: SIGTERM, SIGINT or SIGKILL to one process, to
all of them, or to the launcher; at a random moment of its start, of its steps, or while a checkpoint is being written.
After each fault the run has to end by itself within --bound seconds and is started again by the same command. In the
end the newest checkpoints are compared array by array, and the training losses step by step.
"""

import argparse
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import orbax.checkpoint as ocp

from mhe_jax.train.reporting import writers

ROOT = pathlib.Path(__file__).parent.parent.parent
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
MOMENTS = ("at the start", "in the steps", "in the steps", "during a save", "during a save")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=4, help="of each process")
    parser.add_argument("--steps", type=int, default=600, help="of the training")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--bound", type=float, default=90, help="seconds within which a hurt run has to end")
    parser.add_argument(
        "--metadata_seconds", type=float, default=0, help="that each write of a checkpoint's metadata lasts"
    )
    parser.add_argument("--workdir", type=pathlib.Path, help="where to leave both runs; else a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        return torture(options, options.workdir or pathlib.Path(temporary))


def torture(options: argparse.Namespace, folder: pathlib.Path) -> int:
    whole, hurt = folder / "whole", folder / "hurt"
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    code = Run(options, whole, folder / "whole.log").process.wait()
    if code:
        sys.exit(f"the undisturbed run failed with {code}, see {folder / 'whole.log'}")
    print(f"undisturbed: {options.steps} steps in {time.monotonic() - started:.0f} s", flush=True)

    rng = random.Random(options.seed)
    for number in range(1, options.faults + 1):
        run = Run(options, hurt, folder / f"hurt-{number}.log")
        # The faults are spread over the whole training.
        fault = run.hurt(rng, reach=options.steps * number // (options.faults + 1))
        print(f"fault {number:3d}: {fault}", flush=True)
    run = Run(options, hurt, folder / "hurt-last.log")
    code = run.process.wait()
    print(f"last start: from step {run.first_step}, exit code {code}")
    return compare(whole, hurt) if code == 0 else 1


class Run:
    """One start of a training under launch/local.py."""

    def __init__(self, options: argparse.Namespace, workdir: pathlib.Path, log: pathlib.Path):
        self.workdir, self._log, self._options = workdir, log, options
        self.first_step = newest_checkpoint(workdir)
        config = {
            "total_steps": options.steps,
            "log_every_steps": 1,
            "eval_every_steps": options.steps // 4,
            "checkpoint_every_steps": 7,
            "heartbeat_seconds": 10,
            "stall_seconds": 120,
        }
        command = [
            sys.executable,
            "launch/local.py",
            f"--processes={options.processes}",
            f"--devices={options.devices}",
        ]
        command += [f"--grace={options.bound}", "--", "--config=tests/tiny_config.py", f"--workdir={workdir}"]
        command += [f"--config.{name}={value}" for name, value in config.items()]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{pathlib.Path(__file__).with_name('slow_metadata')}",
            "METADATA_SECONDS": str(options.metadata_seconds),
        }
        with log.open("w") as file:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def hurt(self, rng: random.Random, reach: int) -> str:
        """Waits for a moment, does harm, waits for the end; says what was done and what came of it."""
        moment, number = rng.choice(MOMENTS), rng.choice(SIGNALS)
        victim = rng.choice(["one", "all", "the launcher"])
        pids = self._pids()
        if moment == "at the start":
            time.sleep(rng.uniform(0, 12))
        else:
            self._wait(lambda: self.step() >= reach)
            time.sleep(rng.uniform(0, 0.3))
            if moment == "during a save":
                self._wait(lambda: is_saving(self.workdir))
        if self.process.poll() is not None:
            raise SystemExit(f"the run ended before its fault with {self.process.returncode}, see {self._log}")
        at = self.step()
        harmed = {"one": [rng.choice(pids)], "all": pids, "the launcher": [self.process.pid]}[victim]
        for pid in harmed:
            os.kill(pid, number)
        began = time.monotonic()
        code = self.process.wait(timeout=2 * self._options.bound)
        while any(alive(pid) for pid in pids):
            if time.monotonic() - began > self._options.bound:
                raise SystemExit(f"processes outlive their run by {self._options.bound} s, see {self._log}")
            time.sleep(0.1)
        return (
            f"{number.name:7s} to {victim:12s} {moment:13s} at step {at:4d}: exit code {code:4d} after "
            f"{time.monotonic() - began:4.1f} s, checkpoint {newest_checkpoint(self.workdir):4d}"
        )

    def step(self) -> int:
        """The last step that the run has reported."""
        try:
            events = writers.read_events(self.workdir / "metrics.jsonl")
        except ValueError:  # in the middle of a line
            return 0
        return events[-1]["step"] if events else 0

    def _pids(self) -> list[int]:
        found = lambda: re.findall(r"has pid (\d+)", self._log.read_text())
        self._wait(lambda: len(found()) == self._options.processes)
        return [int(pid) for pid in found()]

    def _wait(self, condition) -> None:
        while not condition() and self.process.poll() is None:
            time.sleep(0.002)


def alive(pid: int) -> bool:
    """Whether a process still runs; one that waits for its parent to notice its end does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def newest_checkpoint(workdir: pathlib.Path) -> int:
    """The step of the newest complete checkpoint, 0 without one."""
    folder = workdir / "checkpoints"
    return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)


def is_saving(workdir: pathlib.Path) -> bool:
    """Whether a checkpoint is being written: its folder has another name until it is complete."""
    folder = workdir / "checkpoints"
    return any(not path.name.isdigit() for path in folder.glob("*"))


def compare(whole: pathlib.Path, hurt: pathlib.Path) -> int:
    """Prints whether two runs ended in the same bits; 0 if they did."""
    left, right = arrays(whole), arrays(hurt)
    same = [name for name in left if name in right and left[name].tobytes() == right[name].tobytes()]
    print(
        f"final state at steps {newest_checkpoint(whole)} and {newest_checkpoint(hurt)}: {len(same)} of {len(left)} "
        f"arrays are bitwise equal"
    )
    for name in sorted(left.keys() ^ right.keys() | left.keys() - set(same)):
        print(f"  differs: {name}")
    losses = [
        {e["step"]: e["loss"] for e in writers.read_events(run / "metrics.jsonl") if e["split"] == "train"}
        for run in (whole, hurt)
    ]
    equal = sum(losses[0][step] == losses[1].get(step) for step in losses[0])
    print(f"training losses: {equal} of {len(losses[0])} are equal")
    results = [json.loads((run / "result.json").read_text())["last"] for run in (whole, hurt)]
    print(f"last evaluations: {results[0]} and {results[1]}")
    return int(len(same) < len(left) or left.keys() != right.keys() or results[0] != results[1])


def arrays(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of the newest checkpoint, by name."""
    folder = (workdir / "checkpoints" / str(newest_checkpoint(workdir)) / "state").resolve()
    checkpointer = ocp.PyTreeCheckpointer()
    # As host arrays: the devices that saved them are not here.
    on_host = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), checkpointer.metadata(folder).item_metadata.tree
    )
    tree = checkpointer.restore(folder, restore_args=on_host)
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


if __name__ == "__main__":
    sys.exit(main())
