"""Ends a run while it starts, again and again, and asks whether it ever says something else than "interrupted".

    python tests/benchmarks/starts.py --starts=60

Each start gets one SIGTERM after a time between --earliest and --latest seconds, spread evenly, and goes on with what
the start before it left. The status has to be 75, and what they all left together has to be evaluated in the end.
"""

import argparse
import collections
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent.parent
INTERRUPTED = 75
# The signal came before the interpreter had read main.py: nothing was begun, and the shell shows 143.
BEFORE_PYTHON = -15
ENDLESS = ("--config.total_steps=1000000", "--config.checkpoint_every_steps=50", "--config.log_every_steps=10")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=60)
    parser.add_argument("--earliest", type=float, default=0.1, help="seconds")
    parser.add_argument("--latest", type=float, default=8, help="seconds")
    options = parser.parse_args()
    ends = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / "run"
        for number in range(options.starts):
            seconds = options.earliest + (options.latest - options.earliest) * number / max(1, options.starts - 1)
            process, log = start(workdir, pathlib.Path(folder) / f"{number}.log", *ENDLESS)
            time.sleep(seconds)
            process.terminate()
            began = time.monotonic()
            code = process.wait(timeout=120)
            ends[code] += 1
            took = time.monotonic() - began
            text = log.read_text()
            last = (text.splitlines() or ["(no output)"])[-1]
            print(f"{seconds:5.2f} s: status {code:3d} after {took:4.1f} s; {last[:100]}", flush=True)
            if code not in (INTERRUPTED, BEFORE_PYTHON) or "Traceback" in text:
                print(text)
        process, log = start(workdir, pathlib.Path(folder) / "last.log", "--mode=eval")
        code = process.wait(timeout=300)
        print(f"evaluation of what they left: status {code}; {log.read_text().strip()[:200]}")
    print("statuses:", dict(ends))
    return int(bool(code or ends.keys() - {INTERRUPTED, BEFORE_PYTHON}))


def start(workdir: pathlib.Path, log: pathlib.Path, *flags: str) -> tuple[subprocess.Popen, pathlib.Path]:
    """The program with a small network in a process of its own, and where its output goes."""
    command = [sys.executable, "main.py", "--config=tests/tiny_config.py", f"--workdir={workdir}", *flags]
    with log.open("w") as file:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment)
    return process, log


if __name__ == "__main__":
    sys.exit(main())
