"""How the examples of a call and the rows of a table are split over the ambient mesh, out of and in shard_map."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from mhe_jax.ops.owned import Visit


def is_one_device() -> bool:
    """Whether nothing is split: there is no ambient mesh with axis 'class', or it has one device."""
    shape = jax.sharding.get_abstract_mesh().shape
    return "class" not in shape or shape["class"] * shape.get("data", 1) == 1


class Split(NamedTuple):
    """How the examples of a call are split."""

    own: P  # outside: over both axes, as far as they divide
    axis: str | None  # inside: over 'data', or not at all

    @property
    def gathered(self) -> bool:
        return self.own != P(self.axis)


def divides(features, axes, shape) -> bool:
    """Whether a mesh has these axes, of more than one device, and the examples divide over them."""
    devices = math.prod(shape.get(axis, 1) for axis in axes)
    return devices > 1 and features.shape[0] % devices == 0


def split_of(features) -> Split:
    """The split of a batch; what does not divide, as a single example, stays whole."""
    shape = jax.sharding.get_abstract_mesh().shape
    if "data" not in shape:
        raise ValueError(f"a mesh with axis 'class' needs axis 'data' too; the ambient mesh is {dict(shape)}")
    if shape["class"] > 1 and divides(features, ("data", "class"), shape):
        return Split(P(("data", "class")), "data")
    axis = "data" if features.shape[0] % shape["data"] == 0 else None
    return Split(P(axis), axis)


def align(over: Split, features, *tables):
    """Inside shard_map: the features of all devices along 'class', and the tables marked as varying like the examples.

    The scans of `chunked` need both to vary over the same axes; the transpose of the mark is the sum over devices in
    the gradient, and that of the gather is the sum that leaves each device its own examples.
    """
    if over.gathered:
        features = lax.all_gather(features, "class", tiled=True)
    else:
        features = lax.pcast(features, "class", to="varying")
    if over.axis is not None:
        tables = jax.tree.map(lambda table: lax.pcast(table, over.axis, to="varying"), tables)
    return features, *tables


def align_visited(over: Split, features, table, visit: Visit | None, *tables):
    """`align`, and the visit as this device makes it.

    A table that is visited is the same on all devices along 'data', before and after, and is not marked; the gradient
    of each block is summed instead.
    """
    if visit is None:
        features, table, *tables = align(over, features, table, *tables)
        return features, table, None, *tables
    features, *tables = align(over, features, *tables)
    axes = () if over.axis is None else (over.axis,)
    return features, table, dataclasses.replace(visit, first=first_row(table), axes=axes), *tables


def visit_specs(visit: Visit | None):
    """Slots are split as their table is."""
    return P() if visit is None else dataclasses.replace(visit, learning_rate=P(), key=P(), slots=P("class"), first=P())


def sum_rows(over: Split, tree):
    """Inside shard_map: sums over 'class' of arrays [B, ...], to each device those of its own examples."""
    if not over.gathered:
        return lax.psum(tree, "class")
    return jax.tree.map(lambda x: lax.psum_scatter(x, "class", scatter_dimension=0, tiled=True), tree)


def first_row(table):
    """Inside shard_map: the global index of this device's first row."""
    return lax.axis_index("class") * math.prod(table.shape[:-1])


def combine(lse, target, total):
    return combine_lse(lse), lax.psum(target, "class"), lax.psum(total, "class")


def combine_lse(lse):
    """Log-sum-exp over 'class' of local log-sum-exps; a shard may hold padding only, and then has -inf, as may all."""
    peak = lax.pmax(lax.stop_gradient(lse), "class")
    peak = jnp.where(peak == -jnp.inf, 0.0, peak)
    total = lax.psum(jnp.exp(lse - peak), "class")
    return jnp.where(total > 0, peak + jnp.log(jnp.where(total > 0, total, 1.0)), -jnp.inf)
