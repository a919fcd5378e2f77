"""What heads take and send at sizes no machine here has: train steps compiled for made-up CPU devices, none run."""

import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from mhe_jax.recipes.files import load_config
from mhe_jax.settings import Settings
from mhe_jax.train.parallel.collectives import bytes_sent
from mhe_jax.train.parallel.mesh import check_batch, make_mesh
from mhe_jax.train.reporting import report
from mhe_jax.train.reporting.programs import build_model, compile_train


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
                compiled = compile_train(settings, model, mesh)
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


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.0f}" if size >= 10 * 2**20 else f"{size / 2**20:,.1f}"
