"""Small checkpoints that tell their step, for tests of what becomes of them."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mhe_jax.labels import LabelSpace
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from mhe_jax.train.state import TrainState

SPACE = LabelSpace(19, (4, 5))


def mesh_of(data, classes):
    devices = np.array(jax.devices()[: data * classes]).reshape(data, classes)
    return Mesh(devices, ("data", "class"), axis_types=(AxisType.Auto,) * 2)


def made(step, mesh=None, rows=8, width=6):
    """A state that tells its step, with a table that is split over 'class'."""
    mesh = mesh or mesh_of(2, 2)
    sharded = lambda array, *spec: jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
    table = np.zeros((rows, width), np.float32)
    table[:7] = step + np.arange(7 * width).reshape(7, width)
    params = {"backbone": {"kernel": sharded(np.full((3, width), step, np.float32))}, "head": {}}
    params["head"]["table"] = sharded(table, "class")
    return TrainState(sharded(jnp.int32(step)), params, {}, {"momentum": sharded(np.full(5, step, np.float32))})


def shapes_of(state):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


def meta(best=None):
    return {"label_space": "19 as 4x5", "best": best and {"step": best}, "last": None, "seconds": 0.0}


def save_all(workdir, steps, best=None, **options):
    with contextlib.closing(Checkpoints(workdir, **options)) as checkpoints:
        for step in steps:
            checkpoints.save(made(step), step, meta(best if best and best <= step else None))
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def restored_step(workdir, **options):
    with contextlib.closing(Checkpoints(workdir, **options)) as checkpoints:
        state, _ = checkpoints.restore(shapes_of(made(0)), SPACE)
    assert float(state.params["backbone"]["kernel"].sum()) == 18 * int(state.step)
    return int(state.step)


def save_and_wait(checkpoints, step):
    checkpoints.save(made(step), step, meta())
    checkpoints.wait()
