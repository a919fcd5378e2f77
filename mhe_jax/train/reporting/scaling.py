"""What heads take and send at sizes no machine here has: train steps compiled and not run.

For devices of a target, or for made-up CPU devices.
"""

import functools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from mhe_jax.recipes.files import load_config
from mhe_jax.targets import target as targets
from mhe_jax.targets.tpus import TPUS
from mhe_jax.train.reporting import programs
from mhe_jax.train.reporting.head_costs import ambient, checked

_DEVICES_OF_A_HOST = 8


def measure(
    configs: Iterable[str],
    mesh_name: str,
    classes: Iterable[int],
    batch: int | None = None,
    dtype: str = "",
    accelerator: str = "",
) -> Iterator[dict[str, Any]]:
    """The cells of one mesh.

    Args:
      configs: files or shipped names.
      mesh_name: devices along data x class.
      classes: numbers of classes.
      batch: examples of a step; None: the config's.
      dtype: of compute; empty: the config's.
      accelerator: a name of `mhe_jax.targets`, such as h100; empty: CPU devices, in a process that has not touched its
        devices yet, or has just so many.

    Yields:
      dicts with config, mesh, classes, and in bytes for each device: state (and batch), temporary, sent.

    Raises:
      ValueError: for anything wrong with a config.
    """
    data, class_shards = (int(size) for size in mesh_name.split("x"))
    target = targets.find(_named(accelerator, data * class_shards)) if accelerator else None
    if target is None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", data * class_shards)
    for name in configs:
        for num_classes in classes:
            config = load_config(name)
            config.data.num_classes = num_classes
            config.mesh.update(data=data, classes=class_shards)
            config.global_batch_size = batch or config.global_batch_size
            config.dtype = dtype or config.dtype
            settings, mesh = checked(config, target)
            with ambient(settings, mesh):
                model = programs.build_model(settings, settings.head, mesh)
                cost = programs.cost(functools.partial(programs.compile_train, settings, model, mesh), mesh)
            yield {
                "config": name,
                "mesh": mesh_name,
                "classes": num_classes,
                "state": cost.arguments,
                "temporary": cost.temporaries,
                "sent": cost.all_sent,
            }


def _named(accelerator: str, devices: int) -> str:
    """So many devices of a kind, GPUs on hosts of eight."""
    hosts = devices // _DEVICES_OF_A_HOST
    if accelerator in TPUS or hosts < 2 or devices % _DEVICES_OF_A_HOST:
        return f"{accelerator}:{devices}"
    return f"{accelerator}:{hosts}x{_DEVICES_OF_A_HOST}"


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


def _mebibytes(size: float | None) -> str:
    if size is None:
        return "-"
    return f"{size / 2**20:,.0f}" if size >= 10 * 2**20 else f"{size / 2**20:,.1f}"
