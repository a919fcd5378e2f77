"""The device mesh with axes ('data', 'class'), and how batches and state are laid out on it."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from mhe_jax.settings import Settings
from mhe_jax.train.parallel.machine import processes_here

# One row of a batch per device, over both axes: only a sharded head gathers rows along 'class'.
BATCH = PartitionSpec(("data", "class"))
# Several batches stacked for one dispatch.
CHUNK = PartitionSpec(None, ("data", "class"))


def make_mesh(section: ConfigDict, devices: Sequence[Any] = ()) -> Mesh:
    """The mesh of `config.mesh` over `devices`, by default all; a size of -1 takes what the other axis leaves.

    Raises:
      ValueError: if the sizes do not multiply to the number of devices.
    """
    if set(section) != {"data", "classes"}:
        raise ValueError(f"config.mesh has the fields {sorted(section)}; it must have data and classes")
    devices = devices or jax.devices()
    count, data, classes = len(devices), section.data, section.classes
    if data == -1:
        data = count // max(classes, 1)
    elif classes == -1:
        classes = count // max(data, 1)
    if min(data, classes) < 1 or data * classes != count:
        raise ValueError(
            f"config.mesh asks for data={section.data} x classes={section.classes} devices, but there are {count}: "
            "the product must be the number of devices (-1 means the rest)"
        )
    # By process, and not by topology as jax.make_mesh does on TPUs: a batch is the rows of process 0, then of 1, ...
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered).reshape(data, classes), ("data", "class"), axis_types=(AxisType.Auto,) * 2)


def check_batch(mesh: Mesh, settings: Settings) -> None:
    """Raises ValueError unless every part of a batch that runs at once can be cut evenly over the mesh."""
    parts = settings.accumulate_steps * mesh.size
    if settings.global_batch_size % parts:
        raise ValueError(
            f"config.global_batch_size is {settings.global_batch_size}; with {mesh.size} devices and accumulate_steps "
            f"{settings.accumulate_steps} it must be a multiple of {parts}"
        )


def whole(mesh: Mesh) -> NamedSharding:
    """The layout of what every process has to read: a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Puts host arrays whole on every device. Every process must hold the same values."""
    sharding = whole(mesh)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree)


def place(mesh: Mesh, tree: Any, spec: PartitionSpec) -> Any:
    """Joins each process's rows into global arrays laid out by `spec`, `BATCH` or `CHUNK`."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), tree)


def put(value: Any, like: Any) -> jax.Array:
    """An array laid out as `like`, an array or ShapeDtypeStruct, on any number of processes.

    Args:
      value: a host array that every process has whole, or an array on the mesh.
      like: of the same shape; its dtype and sharding are taken.
    """
    if isinstance(value, jax.Array) and value.sharding == like.sharding:
        return value.astype(like.dtype)
    host = np.asarray(value, like.dtype)
    return jax.make_array_from_callback(host.shape, like.sharding, lambda index: host[index])


def shares(mesh: Mesh, accumulate_steps: int = 1) -> dict[str, int]:
    """How a batch is shared out, as the arguments of a feed: over processes, machines, and parts of devices."""
    return {
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
        "num_devices": mesh.size * accumulate_steps,
        "processes_here": processes_here(),
    }
