"""What a run tells about itself: parameters by module, memory of the compiled step, versions, result."""

import importlib.metadata
import math
import os
import platform
from typing import Any

import jax

from mhe_jax.settings import Settings
from mhe_jax.version import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "transformers", "tokenizers")


def parameter_count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def parameter_table(params: Any) -> str:
    """Parameters of each module of the backbone (one level deep) and each array of the head, as aligned lines."""
    rows: list[tuple[str, str, int]] = []
    for part, modules in params.items():
        rows += [(f"{part}/{name}", _shapes(tree), parameter_count(tree)) for name, tree in modules.items()]
    rows.append(("total", "", parameter_count(params)))
    name_width, shape_width = max(len(name) for name, _, _ in rows), max(len(shape) for _, shape, _ in rows)
    return "\n".join(f"{name:{name_width}}  {shape:{shape_width}}  {count:>15,}" for name, shape, count in rows)


def memory_bytes(analysis: Any) -> dict[str, int]:
    """Bytes per device that a compiled step needs: its arguments, its results that are not donated, its temporaries."""
    return {
        "arguments": analysis.argument_size_in_bytes,
        "outputs": analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
        "temporary": analysis.temp_size_in_bytes,
    }


def check_memory(analysis: Any, task: Any, batch_size: int, what: str = "a train step") -> None:
    """Raises ValueError if a compiled program, `what`, needs more than its device has, before it is run.

    On a CPU the bound is the machine's memory.
    """
    needed, available = _memory(analysis)
    if available and needed > available:
        raise ValueError(
            f"{what} needs {megabytes(needed)} but there are {megabytes(available)}: lower global_batch_size"
            + task.head.memory_advice(batch_size)
        )


def share_of_memory(analysis: Any) -> float:
    """What a compiled program needs of its device's memory; 0 where that is not known."""
    needed, available = _memory(analysis)
    return needed / available if available else 0.0


def memory_line(analysis: Any, what: str = "train step") -> str:
    parts = memory_bytes(analysis)
    listed = ", ".join(f"{name} {megabytes(size)}" for name, size in parts.items())
    return f"{what}, per device: {megabytes(sum(parts.values()))} ({listed})"


def _memory(analysis: Any) -> tuple[int, int]:
    """Bytes that a compiled program needs, and that there are, of a device or if that is a CPU of the machine."""
    needed, device = sum(memory_bytes(analysis).values()), jax.local_devices()[0]
    if device.platform == "cpu":
        return needed * jax.local_device_count(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return needed, (device.memory_stats() or {}).get("bytes_limit", 0)


def peak_memory() -> dict[str, float]:
    """{'peak_memory_gib': the most that a device of this process had in use so far}; empty where none counts it."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [found["peak_bytes_in_use"] for found in stats if "peak_bytes_in_use" in found]
    return {"peak_memory_gib": max(peaks) / 2**30} if peaks else {}


def megabytes(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"


def versions() -> dict[str, Any]:
    """Versions and devices, for every file that holds a figure."""
    return {
        "versions": {"mhe-jax": __version__}  # also of a working tree that is not installed
        | {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "device_count": jax.device_count(),
    }


def result(settings: Settings, task: Any, params: Any, step: int, meta: dict) -> dict[str, Any]:
    """The content of result.json: best and last evaluation, the head and its size, and how it came about."""
    return {
        "best": meta["best"],
        "last": meta["last"],
        "step": step,
        "data": settings.data.name,
        "num_classes": task.head.label_space.num_live,
        "head": settings.head.name,
        "head_sizes": list(task.head.label_space.head_sizes),
        "head_parameters": parameter_count(params["head"]),
        "parameters": parameter_count(params),
        "seconds": round(meta["seconds"], 1),
        "seed": settings.seed,
        **versions(),
    }


def _shapes(tree: Any) -> str:
    leaves = jax.tree.leaves(tree)
    return str(list(leaves[0].shape)) if len(leaves) == 1 else f"{len(leaves)} arrays"
