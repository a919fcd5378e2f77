"""The weights of a task as shapes on a mesh, which is all that reading them back takes: nothing is initialised."""

from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh


def abstract_weights(task, mesh: Mesh) -> dict:
    """Shapes, dtypes and shardings of {'params', 'batch_stats'}, without computing them.

    Tables that a head declares as partitioned are sharded; the rest is replicated.
    """
    params, batch_stats = jax.eval_shape(lambda: task.init(jax.random.key(0)))
    return laid_out({"params": params, "batch_stats": batch_stats}, mesh)


def laid_out(boxed: Any, mesh: Mesh) -> Any:
    """The shapes of a tree with the shardings on `mesh` that its boxes, of Flax, declare; without the boxes."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        unboxed(boxed),
        nn.get_sharding(boxed, mesh),
    )


def unboxed(tree: Any) -> Any:
    """A tree without the boxes in which Flax keeps how its arrays are partitioned."""
    # Not flax's own unbox: under an ambient mesh that adds sharding constraints, which abstract values cannot take.
    is_box = lambda leaf: isinstance(leaf, nn.Partitioned)
    return jax.tree.map(lambda leaf: leaf.value if is_box(leaf) else leaf, tree, is_leaf=is_box)
