"""What heads take and send at sizes no machine here has: train steps compiled for many made-up CPU devices, none run.

    python -m mhe_jax.scaling --config=configs/scaling.py:images,ohe --config=configs/scaling.py:images,mhp

Prints a table for docs/scaling.md: of each config, number of classes and mesh (devices along data x class), the memory
of a device, state and batch + temporary, and what it sends in a step, in MiB. They are those of XLA's CPU program: the
state and the batch are the same on any device, temporaries may be more or less elsewhere.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from mhe_jax.train import report
from mhe_jax.train.abstract_step import build_model, compile_step
from mhe_jax.train.collectives import bytes_sent
from mhe_jax.train.mesh import check_batch, make_mesh
from mhe_jax.train.settings import Settings

CLASSES = (1_000_000, 10_000_000, 100_000_000)
MESHES = ("1x1", "1x8", "1x64", "8x64")
# The programs are not run, so that they need not be fast.
_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", action="append", required=True, help="a file of configs/, :argument string; again")
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--meshes", nargs="+", default=MESHES, help="devices along data x class, such as 8x64")
    parser.add_argument("--batch", type=int, help="config.global_batch_size")
    parser.add_argument("--json", action="store_true", help="one line for each cell in place of a table")
    options = parser.parse_args(arguments)
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


def measure(
    configs: Iterable[str], mesh_name: str, classes: Iterable[int], batch: int | None = None
) -> Iterator[dict[str, Any]]:
    """The cells of one mesh, in a process that has not touched its devices yet, or has just so many.

    Yields:
      dicts with config, mesh, classes, and in bytes for each device: state (and batch), temporary, sent.

    Raises:
      ValueError: for anything wrong with a config.
    """
    data, class_shards = (int(size) for size in mesh_name.split("x"))
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", data * class_shards)
    for name in configs:
        for num_classes in classes:
            config = load_config(name)
            config.data.num_classes = num_classes
            config.mesh.update(data=data, classes=class_shards)
            config.global_batch_size = batch or config.global_batch_size
            settings = Settings.from_config(config)
            mesh = make_mesh(settings.mesh)
            check_batch(mesh, settings)
            with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
                model = build_model(settings, settings.head, mesh)
                compiled = compile_step(settings, model, mesh)
            memory = report.memory_bytes(compiled.memory_analysis())
            yield {
                "config": name,
                "mesh": mesh_name,
                "classes": num_classes,
                "state": memory["arguments"],
                "temporary": memory["temporary"] + memory["outputs"],
                "sent": bytes_sent(compiled, mesh),
            }


def table(rows: list[dict]) -> str:
    """Markdown: a line for each config and number of classes; of each mesh `state + temporary | sent`, in MiB."""
    meshes = list(dict.fromkeys(row["mesh"] for row in rows))
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for row in rows:
        memory, sent = ((row["state"], row["temporary"]), row["sent"])
        shown = f"{' + '.join(_mebibytes(size) for size in memory)}; {_mebibytes(sent)}"
        cells.setdefault((row["config"], row["classes"]), {})[row["mesh"]] = shown
    lines = [f"| config | classes | {' | '.join(meshes)} |", "|" + "---|" * (2 + len(meshes))]
    for (config, classes), by_mesh in cells.items():
        name = config.partition(":")[2] or pathlib.Path(config).stem
        lines.append(f"| `{name}` | {classes:,} | {' | '.join(by_mesh[mesh] for mesh in meshes)} |")
    return "\n".join(lines)


def load_config(name: str) -> ConfigDict:
    """The config of FILE or FILE:ARGUMENTS."""
    path, _, argument = name.partition(":")
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    if spec is None or spec.loader is None or not pathlib.Path(path).is_file():
        raise ValueError(f"--config={name}: there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


def _in_process(options: argparse.Namespace, mesh: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "mhe_jax.scaling", "--json", "--meshes", mesh]
    command += [f"--config={name}" for name in options.config] + ["--classes", *map(str, options.classes)]
    command += [f"--batch={options.batch}"] if options.batch else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield from (json.loads(line) for line in child.stdout)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.0f}" if size >= 10 * 2**20 else f"{size / 2**20:,.1f}"


if __name__ == "__main__":
    main()
