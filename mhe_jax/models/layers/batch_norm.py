"""BatchNorm as PyTorch defines it, optionally with separate statistics for parts of the batch."""

import functools

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
      use_scale: whether channels have a scale; without, it is 1.

    Raises:
      ValueError: if the batch does not divide into `bn_groups`, or a part has a single value per channel.
    """

    bn_groups: int = 1
    momentum: float = 0.1
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32
    use_scale: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        ones = nn.initializers.ones
        scale = self.param("scale", ones, (channels,), jnp.float32) if self.use_scale else jnp.ones(channels)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)

        wide = jnp.promote_types(x.dtype, jnp.float32)
        if not train:
            y = _apply(x.astype(wide), running_mean.value, running_var.value, scale, bias, self.epsilon)
            return y.astype(self.dtype)

        if x.shape[0] % self.bn_groups:
            raise ValueError(
                f"a batch of {x.shape[0]} does not divide into config.backbone.bn_groups={self.bn_groups} equal parts"
            )
        # One long axis besides the channels: XLA's CPU code for the gradient is then several times faster.
        rows = x.astype(wide).reshape(self.bn_groups, -1, channels)
        count = rows.shape[1]
        if count < 2:
            raise ValueError(
                f"BatchNorm needs at least 2 values per channel in training, but each part of {x.shape} has 1"
            )
        if self.bn_groups == 1:
            y, mean, var = _normalize(rows[0], scale, bias, self.epsilon)
        else:
            parts = jax.vmap(lambda rows: _normalize(rows, scale, bias, self.epsilon))
            y, means, variances = parts(rows)
            mean, var = means[0], variances[0]
        if not self.is_initializing():
            running_mean.value += self.momentum * (mean - running_mean.value)
            running_var.value += self.momentum * (var * (count / (count - 1)) - running_var.value)
        return y.reshape(x.shape).astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(rows, scale, bias, epsilon):
    """[N, C] normalised by its own statistics, and these. Its gradient passes over the rows less often than JAX's."""
    return _forward(rows, scale, bias, epsilon)[0]


def _forward(rows, scale, bias, epsilon):
    mean = rows.mean(axis=0)
    var = jnp.square(rows - mean[None, :]).mean(axis=0)  # two passes: E[x²] - E[x]² would cancel
    return (_apply(rows, mean, var, scale, bias, epsilon), mean, var), (rows, mean, var, scale)


def _backward(epsilon, saved, gradients):
    rows, mean, var, scale = saved
    of_y, of_mean, of_var = gradients
    centred, inverse = rows - mean[None, :], jax.lax.rsqrt(var + epsilon)
    of_bias = of_y.sum(axis=0)
    of_scale = (of_y * centred).sum(axis=0) * inverse
    of_mean = of_mean - scale * inverse * of_bias
    of_var = of_var - scale * of_scale * jnp.square(inverse) / 2
    count = rows.shape[0]
    of_rows = of_y * (scale * inverse)[None, :] + centred * (of_var * 2 / count)[None, :] + (of_mean / count)[None, :]
    return of_rows, of_scale, of_bias


_normalize.defvjp(_forward, _backward)


def _apply(x, mean, var, scale, bias, epsilon):
    over = lambda stats: stats.reshape((1,) * (x.ndim - 1) + stats.shape)
    return (x - over(mean)) * over(scale * jax.lax.rsqrt(var + epsilon)) + over(bias)
