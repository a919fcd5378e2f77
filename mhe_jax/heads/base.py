"""What all heads share: the contract, and how their parameters are created."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mhe_jax.labels import LabelSpace


class Head(nn.Module):
    """A classifier of features [B, D] into the classes of a label space.

    Parameters are float32; products run in `dtype` and accumulate in float32; losses and scores are float32.

    Attributes:
      label_space: the classes and their digits.
      features_dim: D.
      class_shards: size of mesh axis 'class', over which large tables are split. Above 1, a mesh must be ambient.
      dtype: compute dtype of the products.
      label_smoothing: probability spread evenly over the classes that compete in the loss, in 0 .. 1.
    """

    label_space: LabelSpace
    features_dim: int
    class_shards: int = 1
    dtype: Any = jnp.float32
    label_smoothing: float = 0.0

    # Whether `loss` takes `want_value` and may leave out the value, though not the gradient, where that is False.
    lazy_value = False

    def sparse_tables(self) -> tuple[str, ...]:
        """Names of the parameters [blocks, n, d] of which a step uses few blocks; see `mhe_jax.train.optim.rules`."""
        return ()

    def statistics(self) -> dict:
        """Running statistics of the training batches, before the first: arrays by name; most heads have none."""
        return {}

    def memory_advice(self, batch_size: int) -> str:
        """What else to lower where a step does not fit, with figures: the end of an error message, or nothing."""
        return ""

    def loss(
        self, features: jax.Array, labels: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Loss of each example and further per-example metrics: [B, D], int [B] -> float32 [B], {name: float32 [B]}.

        A negative label gives some finite value, for the caller to mask. `key` is for heads that sample.
        """
        raise NotImplementedError

    def topk(self, features: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
        """The k most probable classes: [B, D] -> (log-probabilities [B, k], ids int32 [B, k]), best first.

        Where a narrow beam reaches fewer than k classes, the rest is -inf and -1.

        Raises:
          ValueError: if there are fewer than k classes.
        """
        raise NotImplementedError

    def scores(self, features: jax.Array, ids: jax.Array) -> jax.Array:
        """Log-probabilities of given classes, as in `topk`: [B, D], int [B, M] -> float32 [B, M]."""
        raise NotImplementedError

    def setup(self):
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"config.head.label_smoothing is {self.label_smoothing}; it must be in [0, 1)")

    @property
    def table_parts(self) -> int:
        """How many equal parts the rows of a large table make: as many as devices, or a multiple of them."""
        return self.class_shards

    def class_table(self, name: str, init: nn.initializers.Initializer, *shape: int) -> jax.Array:
        """A parameter whose rows are split over mesh axis 'class', filled up with zero rows to `table_parts` parts.

        The values are drawn at `shape`, so the same key gives the same table on every mesh.
        """
        if name in self.sparse_tables() and self.has_variable("params", name):
            # Perhaps some of its blocks only: `Module.param` would insist on the whole table's shape.
            table: Any = nn.unbox(self.get_variable("params", name))
            return table
        rows = padded_rows(shape[0], self.table_parts)

        def padded(key, shape_with_padding, dtype):
            values = init(key, shape, dtype)
            return jnp.pad(values, [(0, full - size) for full, size in zip(shape_with_padding, shape, strict=True)])

        names = ("class", *[None] * (len(shape) - 1))
        table = self.param(name, nn.with_partitioning(padded, names), (rows, *shape[1:]), jnp.float32)
        return table

    def check_k(self, k: int) -> None:
        """Raises ValueError unless there are k classes."""
        if not 1 <= k <= self.label_space.num_classes:
            raise ValueError(f"k={k} classes asked for, but there are {self.label_space.num_classes} (k starts at 1)")


def padded_rows(rows: int, shards: int) -> int:
    """The smallest multiple of `shards` that holds `rows`."""
    return -(-rows // shards) * shards


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform in -bound .. bound."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def torch_linear(fan_in: int) -> nn.initializers.Initializer:
    """What torch.nn.Linear draws its weight and bias from: uniform in ±1/sqrt(fan_in)."""
    return symmetric_uniform(1 / math.sqrt(fan_in))


class Linear(nn.Module):
    """Affine map with torch.nn.Linear's initial values: [..., features_dim] -> float32 [..., outputs]."""

    features_dim: int
    outputs: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x):
        init = torch_linear(self.features_dim)
        kernel = self.param("kernel", init, (self.features_dim, self.outputs), jnp.float32)
        y = jnp.dot(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
        return y + self.param("bias", init, (self.outputs,), jnp.float32)[None, :] if self.use_bias else y
