"""BatchNorm as PyTorch defines it, optionally with separate statistics for parts of the batch."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


class BatchNorm(nn.Module):
    """torch.nn.BatchNorm: [B, ..., C] -> [B, ..., C] in `dtype`, normalised over all axes but the last.

    The batch is normalised with its biased variance, while the running variance follows the unbiased one. Statistics
    are float32 or wider. In a jitted step over a sharded batch they are those of the global batch ("synchronised").

    Attributes:
      bn_groups: number of contiguous parts of the batch with statistics of their own. n stands for PyTorch's training
        on n devices, where each sees its part only and the running statistics are those of the first.
      momentum: weight of the new batch in the running statistics: torch's meaning, the complement of Flax's.
      epsilon: added to the variance.
      dtype: compute dtype.

    Raises:
      ValueError: if the batch does not divide into `bn_groups`, or a part has a single value per channel.
    """

    bn_groups: int = 1
    momentum: float = 0.1
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)

        if not train:
            return self._normalize(x, running_mean.value, running_var.value, scale, bias)

        if x.shape[0] % self.bn_groups:
            raise ValueError(
                f"a batch of {x.shape[0]} does not divide into config.backbone.bn_groups={self.bn_groups} equal parts"
            )
        grouped = x.reshape(self.bn_groups, x.shape[0] // self.bn_groups, *x.shape[1:])
        count = math.prod(grouped.shape[1:-1])
        if count < 2:
            raise ValueError(
                f"BatchNorm needs at least 2 values per channel in training, but each part of {x.shape} has 1"
            )
        axes = tuple(range(1, grouped.ndim - 1))
        wide = jnp.promote_types(x.dtype, jnp.float32)
        mean = jnp.mean(grouped, axes, dtype=wide)
        centered = grouped.astype(wide) - _over(mean, grouped.ndim)
        var = jnp.mean(jnp.square(centered), axes)  # two passes: E[x²] - E[x]² would cancel

        if not self.is_initializing():
            running_mean.value += self.momentum * (mean[0] - running_mean.value)
            running_var.value += self.momentum * (var[0] * (count / (count - 1)) - running_var.value)
        return self._normalize(grouped, mean, var, scale[None, :], bias[None, :]).reshape(x.shape)

    def _normalize(self, x, mean, var, scale, bias):
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        y = (x - _over(mean, x.ndim)) * _over(factor, x.ndim) + _over(bias, x.ndim)  # as wide as the statistics
        return y.astype(self.dtype)


def _over(stats: jax.Array, ndim: int) -> jax.Array:
    """Statistics [C] or [groups, C] with unit axes inserted before C, to be applied to an array of `ndim` axes."""
    return jnp.expand_dims(stats, tuple(range(stats.ndim - 1, ndim - 1)))
