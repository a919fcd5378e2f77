"""`mhe scaling --config=scaling:images,ohe --config=scaling:images,mhp`: memory and traffic over classes and devices.

Prints a table for docs/scaling.md: of each config, number of classes and mesh (devices along data x class), the memory
of a device, state and batch + temporary, and what it sends in a step, in MiB. Without a `--target` they are those of
XLA's CPU program: the state and the batch are the same on any device, temporaries may be more or less elsewhere.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from mhe_jax.recipes.files import load_config

# The tables of docs/scaling.md.
CLASSES = (1_000_000, 10_000_000, 100_000_000)
MESHES = ("1x1", "1x8", "1x64", "8x64")
# The programs are not run, so that they need not be fast.
_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=argv[0], description="Memory and traffic of heads, from compiled programs.")
    parser.add_argument("--config", action="append", required=True, help="FILE or NAME[:ARGUMENTS]; again")
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--meshes", nargs="+", default=MESHES, help="devices along data x class, such as 8x64")
    parser.add_argument("--batch", type=int, help="config.global_batch_size")
    parser.add_argument("--dtype", default="", help="config.dtype")
    parser.add_argument("--target", default="", help="devices to compile for, such as h100 or tpu-v6e; extra `aot`")
    parser.add_argument("--json", action="store_true", help="one line for each cell in place of a table")
    options = parser.parse_args(argv[1:])
    try:
        for name in options.config:
            load_config(name)
        for mesh in options.meshes:
            if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", mesh):
                raise ValueError(f"--meshes {mesh}: devices along data x class, such as 8x64")
        _print(_rows(options), options.json)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:  # which has said why
        return error.returncode
    return 0


def _rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    # Imported here, so that --help is quick.
    from mhe_jax.train.reporting.scaling import measure

    rest = options.batch, options.dtype, options.target
    if options.target:
        for mesh in options.meshes:
            yield from measure(options.config, mesh, options.classes, *rest)
    elif len(options.meshes) == 1:
        os.environ.setdefault("XLA_FLAGS", _FLAGS)
        yield from measure(options.config, options.meshes[0], options.classes, *rest)
    else:
        # The number of devices is fixed when a process first touches one.
        for mesh in options.meshes:
            yield from _in_process(options, mesh)


def _print(rows: Iterator[dict[str, Any]], as_json: bool) -> None:
    from mhe_jax.train.reporting.scaling import table

    if as_json:
        for row in rows:
            print(json.dumps(row), flush=True)
    else:
        print(table(list(rows)))


def _in_process(options: argparse.Namespace, mesh: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "mhe_jax", "scaling", "--json", "--meshes", mesh]
    command += [f"--config={name}" for name in options.config] + ["--classes", *map(str, options.classes)]
    command += [f"--batch={options.batch}"] if options.batch else []
    command += [f"--dtype={options.dtype}"] if options.dtype else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield from (json.loads(line) for line in child.stdout)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
