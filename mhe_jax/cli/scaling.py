"""`mhe scaling --config=scaling:images,ohe --config=scaling:images,mhp`: memory and traffic over classes and devices.

Prints a table for docs/scaling.md: of each config, number of classes and mesh (devices along data x class), the memory
of a device, state and batch + temporary, and what it sends in a step, in MiB. They are those of XLA's CPU program: the
state and the batch are the same on any device, temporaries may be more or less elsewhere.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from mhe_jax.train.reporting.scaling import CLASSES, MESHES, measure, table

# The programs are not run, so that they need not be fast.
_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=argv[0], description="Memory and traffic of heads, from compiled programs.")
    parser.add_argument("--config", action="append", required=True, help="FILE or NAME[:ARGUMENTS]; again")
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--meshes", nargs="+", default=MESHES, help="devices along data x class, such as 8x64")
    parser.add_argument("--batch", type=int, help="config.global_batch_size")
    parser.add_argument("--json", action="store_true", help="one line for each cell in place of a table")
    options = parser.parse_args(argv[1:])
    if len(options.meshes) == 1:
        os.environ.setdefault("XLA_FLAGS", _FLAGS)
        rows = measure(options.config, options.meshes[0], options.classes, options.batch)
    else:
        # The number of devices is fixed when a process first touches one.
        rows = (row for mesh in options.meshes for row in _in_process(options, mesh))
    found = []
    for row in rows:
        found.append(row)
        if options.json:
            print(json.dumps(row), flush=True)
    if not options.json:
        print(table(found))
    return 0


def _in_process(options: argparse.Namespace, mesh: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "mhe_jax", "scaling", "--json", "--meshes", mesh]
    command += [f"--config={name}" for name in options.config] + ["--classes", *map(str, options.classes)]
    command += [f"--batch={options.batch}"] if options.batch else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield from (json.loads(line) for line in child.stdout)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
