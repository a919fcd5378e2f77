"""The backbone split over all devices between its uses (fully sharded data parallelism), for `config.shard_backbone`.

A device keeps a part of each large array: of the parameters, the optimizer's slots and the averages. A step gathers the
parameters, sums each gradient to its parts, and updates these alone. It computes what an unsharded step does; only sums
over devices may round otherwise.
"""

import math
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXES = ("data", "class")
# Smaller arrays stay whole: to gather a bias costs a collective's latency and saves nothing.
_SMALLEST = 2**12


def spec_of(shape: tuple[int, ...], devices: int) -> PartitionSpec:
    """How a backbone's array lies on the mesh: the longest axis that divides over all devices is split.

    Of equally long ones it is the last. Small arrays, and those of which no axis divides, are whole.
    """
    fitting = [axis for axis, size in enumerate(shape) if size % devices == 0]
    if devices == 1 or not fitting or math.prod(shape) < _SMALLEST:
        return PartitionSpec()
    longest = max(fitting, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*[None] * longest, _AXES)


def shard(tree: Any, mesh: Mesh) -> Any:
    """Abstract arrays with shardings, those below a key 'backbone' split as `spec_of` says."""

    def place(path, leaf):
        if not any(getattr(key, "key", None) == "backbone" for key in path):
            return leaf
        return jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec_of(leaf.shape, mesh.size))
        )

    return jax.tree_util.tree_map_with_path(place, tree)


def whole(weights: dict, mesh: Mesh) -> dict:
    """{'params', 'batch_stats'} with the backbone gathered on every device: once for many batches of an evaluation."""
    backbone = jax.device_put(weights["params"]["backbone"], NamedSharding(mesh, PartitionSpec()))
    return {**weights, "params": {**weights["params"], "backbone": backbone}}


def whole_shapes(weights: dict, mesh: Mesh) -> dict:
    """`whole` of shapes."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    backbone = jax.tree.map(lambda leaf: leaf.update(sharding=everywhere), weights["params"]["backbone"])
    return {**weights, "params": {**weights["params"], "backbone": backbone}}


def gather(params: Any, backbone: nn.Module) -> Any:
    """The backbone's parameters whole on every device, inside a step; their gradient comes back split as they are.

    What a backbone says that it reads in its `dtype` alone is sent in it, and so are its gradients.
    """
    wide = getattr(backbone, "wide_params", None)

    def one(path, x):
        narrow = wide is not None and x.ndim > 1 and not any(getattr(key, "key", None) in wide for key in path)
        return _gather(x.astype(backbone.dtype) if narrow else x)

    return jax.tree_util.tree_map_with_path(one, params)


@jax.custom_vjp
def _gather(x):
    # A barrier, or XLA would gather first and round then.
    return jax.lax.with_sharding_constraint(jax.lax.optimization_barrier(x), PartitionSpec())


def _forward(x):
    return _gather(x), None


def _backward(_, gradient):
    devices = jax.sharding.get_abstract_mesh().size
    # First whole, then split: alone, the split would spread to the activations, which would then be moved. XLA's CPU
    # compiler leaves an all-reduce here; that of GPUs has a pass that makes a reduce-scatter of it.
    gradient = jax.lax.with_sharding_constraint(gradient, PartitionSpec())
    return (jax.lax.with_sharding_constraint(gradient, spec_of(gradient.shape, devices)),)


_gather.defvjp(_forward, _backward)
