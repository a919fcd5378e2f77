"""Dropout that a traced value can switch off."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def is_active(rate: float, train: bool | jax.Array) -> bool:
    """Whether anything may be dropped: not at rate 0, nor if `train` is known to be False."""
    return rate > 0 and not (isinstance(train, bool) and not train)


def dropout(module: nn.Module, x: jax.Array, rate: float, train: bool | jax.Array) -> jax.Array:
    """Zeroes each value with probability `rate` and divides the others by 1 - rate, if `train`; same shape and dtype.

    Unlike flax's, `train` may be a traced bool []: the published text pipeline switches dropout off inside an epoch.

    Args:
      module: whose random stream 'dropout' is drawn from, if anything may be dropped.
      x: float [...].
      rate: in 0 .. 1, without 1.
      train: bool, or traced bool [].
    """
    if not is_active(rate, train):
        return x
    keep = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, x.shape)
    scale = jnp.asarray(1 / (1 - rate), x.dtype)
    if not isinstance(train, bool):
        keep, scale = keep | ~train, jnp.where(train, scale, 1)
    return jnp.where(keep, x * scale, 0)


def drop_branch(module: nn.Module, branch: jax.Array, rate: float, train: bool | jax.Array) -> jax.Array:
    """Leaves out a branch [B, ...] of some examples, and scales that of the others: "stochastic depth"."""
    ones = jnp.ones((branch.shape[0],) + (1,) * (branch.ndim - 1), branch.dtype)
    return branch * dropout(module, ones, rate, train)
