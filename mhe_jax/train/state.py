"""The training state, and its creation straight onto the mesh."""

import dataclasses
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mhe_jax.train.optim import averages
from mhe_jax.train.optim.optimizer import Optimizer
from mhe_jax.train.parallel import fsdp
from mhe_jax.train.parallel.mesh import put
from mhe_jax.train.weights import laid_out, unboxed


@flax.struct.dataclass
class TrainState:
    """All that a run carries from step to step; randomness is derived from the seed and `step`, so none is stored.

    Attributes:
      step: int32 [], optimizer steps taken.
      params: {'backbone': ..., 'head': ...}, float32 but for owned tables of another storage.
      batch_stats: the backbone's running statistics.
      opt_state: of `mhe_jax.train.optim.optimizer.Optimizer`.
      average: see `mhe_jax.train.optim.averages`; None without one.
      statistics: the head's running statistics, see `heads.base.Head.statistics`.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None
    statistics: Any = dataclasses.field(default_factory=dict)

    @property
    def eval_weights(self) -> dict:
        """{'params', 'batch_stats'} to evaluate with: the average if there is one."""
        if self.average is not None:
            return self.average["weights"]
        return weights_of(self)


def weights_of(state: TrainState) -> dict:
    """{'params', 'batch_stats'} of a state, concrete or abstract."""
    return {"params": state.params, "batch_stats": state.batch_stats}


def abstract_state(task, optimizer: Optimizer, average_rule, mesh: Mesh, shard_backbone: bool = False) -> TrainState:
    """Shapes, dtypes and shardings of the state, without computing it.

    Tables that a head declares as partitioned are sharded, with their optimizer slots and averages; so are, with
    `shard_backbone`, those of the backbone (see `mhe_jax.train.parallel.fsdp`); the rest is replicated.
    """
    abstract = laid_out(jax.eval_shape(lambda: _boxed_state(task, optimizer, average_rule, 0)), mesh)
    return fsdp.shard(abstract, mesh) if shard_backbone else abstract


def create_state(task, optimizer: Optimizer, average_rule, abstract: TrainState, seed: int) -> TrainState:
    """Initial values on their devices; no host ever holds the whole state."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    init = jax.jit(lambda: unboxed(_boxed_state(task, optimizer, average_rule, seed)), out_shardings=shardings)
    return init()


def with_weights(state: TrainState, weights: dict, average_rule) -> TrainState:
    """`state` with other parameters and statistics, and an average that starts from them."""
    placed = jax.tree.map(put, weights, weights_of(state))
    average = averages.start(average_rule, jax.tree.map(jnp.copy, placed))
    return dataclasses.replace(state, **placed, average=average)


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether no array of the tree holds a NaN or an infinity, bool []."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _boxed_state(task, optimizer, average_rule, seed) -> TrainState:
    params, batch_stats = task.init(jax.random.key(seed))
    average = averages.start(average_rule, {"params": params, "batch_stats": batch_stats})
    statistics = jax.tree.map(jnp.asarray, task.head.statistics())
    return TrainState(jnp.int32(0), params, batch_stats, optimizer.init(params), average, statistics)
