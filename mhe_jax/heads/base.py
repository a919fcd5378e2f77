"""What all heads share: the contract, and how their parameters are created."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Float32, Int

from mhe_jax.heads.beginning import Placed
from mhe_jax.heads.growth import Growing, Path
from mhe_jax.labels import LabelSpace
from mhe_jax.ops import per_row
from mhe_jax.ops.owned import Visit
from mhe_jax.ops.products import product
from mhe_jax.ops.storage import STORAGES, store

Features = Float[Array, "batch features_dim"]
Labels = Int[Array, "batch"] | Int[Array, "batch labels"]  # a head takes one of the two
PerExample = Float32[Array, "batch"]
Losses = tuple[PerExample, dict[str, PerExample]]
Ids = Int[Array, "batch ids"]
Scores = Float32[Array, "batch ids"]
Best = tuple[Float32[Array, "batch {k}"], Int[Array, "batch {k}"]]
Ranked = tuple[Float32[Array, "batch {k}"], Int[Array, "batch {k}"], Scores]  # see `topk_and_scores`


@struct.dataclass
class Context:
    """What a loss may depend on besides features and labels; every field may be left out.

    Attributes:
      key: what heads that sample draw from.
      weight: float [B], 0 for rows that do not count in running statistics; None: all count.
      statistics: the head's running statistics before the batch, which the batch's own loss already updates; None:
        those of the start.
      ignored: int [B, F], labels that may be there or not, -1 for padding, for heads for many labels that leave them
        out of their loss, see `Head.leaves_out`; None: there are none.
      want_value: bool []; where False, a head with `lazy_value` may leave out the value, though not the gradient.
      visits: how the owned tables move, by name, see `Head.owned_tables`; their gradients are then the tables after the
        step.
      blocks: what the method `blocks` returned for the same arguments, if the sparse tables hold these blocks only,
        [U, n, d] in that order on every device. Loss and gradients are those of the whole tables.
      targets: float [B, W], how much each of `labels` [B, W] is one: probabilities of sum 1 for a softmax, grades in
        0 .. 1 for sigmoids; None: the label, or all of them, are.
      label_weights: of many labels, float [B, W]: of the loss's term of each; None: 1.
      adjustment: of the head's method `adjustment`: what the logits of classes are raised by in the loss.
      temperature: that the loss divides the logits by, a number.
    """

    key: jax.Array | None = None
    weight: jax.Array | None = None
    statistics: dict[str, Any] | None = None
    ignored: jax.Array | None = None
    want_value: jax.Array | None = None
    visits: dict[str, Visit] = struct.field(default_factory=dict)
    blocks: dict[str, jax.Array] | None = None
    targets: jax.Array | None = None
    label_weights: jax.Array | None = None
    adjustment: Any = None
    temperature: float = struct.field(default=1.0, pytree_node=False)

    def cooled(self, logits: jax.Array) -> jax.Array:
        """Logits, or what they are proportional to, divided by the temperature."""
        return logits if self.temperature == 1 else logits / self.temperature

    def require_hard_labels(self, head: str, why: str) -> None:
        """Raises ValueError where labels are soft, for a head that has no such loss."""
        if self.targets is not None:
            raise ValueError(f"{head} takes no soft labels, and no teacher: {why}")


NOTHING = Context()


class Head(nn.Module):
    """A classifier of features [B, D] into the classes of a label space.

    Parameters are float32; products run in `dtype` and accumulate in float32; losses and scores are float32. Large
    tables are split over axis 'class' of the ambient mesh (`jax.set_mesh`), where there is one.

    Attributes:
      label_space: the classes and their digits.
      features_dim: D.
      dtype: compute dtype of the products.
      storage: how the owned tables are kept, see `mhe_jax.ops.storage`.
    """

    label_space: LabelSpace
    features_dim: int
    dtype: Any = jnp.float32
    storage: str = "float32"

    # Whether `loss` may leave out the value, though not the gradient, where `Context.want_value` is False.
    lazy_value = False
    # Whether `loss` leaves out the labels `Context.ignored`.
    leaves_out = False

    def __call__(self, features: Features, labels: Labels, context: Context | None = None) -> PerExample:
        """The loss of each example, float32 [B]: `loss` without its metrics, so that `head.init(key, x, y)` works.

        Without a context, a head that samples draws from the stream `sample` of Linen's random numbers.
        """
        if context is None and (self.is_initializing() or self.has_rng("sample")):
            context = Context(key=self.make_rng("sample"))
        return self.loss(features, labels, context or NOTHING)[0]

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        """Loss of each example and further per-example metrics: float32 [B], {name: float32 [B]}; nothing is averaged.

        Args:
          features: float [B, D].
          labels: int [B], where a negative label gives some finite value, for the caller to mask; heads for many labels
            take int [B, W], distinct in a row, -1 where there is none. With `context.targets` the others take [B, W]
            too; the first of a row is to be a likely one.
          context: what else there is.

        Raises:
          ValueError: if the head samples and `context` has no key.
        """
        raise NotImplementedError

    def topk(self, features: Features, k: int) -> Best:
        """The k most probable classes: [B, D] -> (log-probabilities [B, k], ids int32 [B, k]), best first.

        Where a narrow beam reaches fewer than k classes, the rest is -inf and -1.

        Raises:
          ValueError: if there are fewer than k classes.
        """
        raise NotImplementedError

    def scores(self, features: Features, ids: Ids) -> Scores:
        """Log-probabilities of given classes, as in `topk`: [B, D], int [B, M] -> float32 [B, M]."""
        raise NotImplementedError

    def linear_scores(self, features: Features, ids: Ids) -> Scores:
        """`scores`, but where these compare features by their angle alone, of features that are taken as they are."""
        return self.scores(features, ids)

    def topk_and_scores(self, features: Features, k: int, ids: Ids) -> Ranked:
        """`topk`, and `scores` of given classes behind it; in one pass over the classes where the head can."""
        return (*self.topk(features, k), self.scores(features, ids))

    def blocks(self, features: Features, labels: Labels, context: Context = NOTHING) -> dict[str, jax.Array]:
        """The blocks of each sparse table that `loss` uses: {name: int32 [U], ascending, filled up with their number}.

        Or int32 [parts, U], see `train.optim.rules.gather`. How many is decided by the shapes alone.
        """
        return {}

    def sparse_tables(self) -> tuple[str, ...]:
        """Names of the parameters [blocks, n, d] of which a step uses few blocks; see `mhe_jax.train.optim.rules`."""
        return ()

    def owned_tables(self) -> tuple[str, ...]:
        """Names of the parameters [C, D], or blocks of such rows, that `loss` can move itself, see `mhe_jax.ops.owned`.

        Each must be used once in `loss`, with its visit of the context.
        """
        return ()

    def stages(self) -> tuple["Head", ...]:
        """The heads that train the parameters in equal parts of a run, one after the other; the last one takes most."""
        return (self,)

    def statistics(self) -> dict:
        """Running statistics of the training batches, before the first: arrays by name; most heads have none."""
        return {}

    def updated_statistics(self, statistics: dict, values: dict[str, jax.Array], weight: jax.Array) -> dict:
        """The running statistics after a batch with the metrics `values` of `loss`; rows of weight 0 do not count."""
        return statistics

    def from_one_hot(self, params: dict, one_hot: dict) -> dict:
        """Parameters to begin with where a one-hot head over the same features has got to; `params` if it is no use.

        Args:
          params: this head's, newly made.
          one_hot: {'kernel': [C, D], perhaps 'bias': [C]}, by code, with rows of padding.
        """
        return params

    def adjustment(self, log_prior: np.ndarray) -> Any:
        """What `Context.adjustment` has to be for logits that are raised by `log_prior` in the loss, on the host.

        A head whose logits are sums of those of digits or nodes has one for each of these.

        Args:
          log_prior: float32 [C], by code: tau log(share of the training examples).

        Raises:
          ValueError: if the head has no softmax of such logits.
        """
        raise ValueError(
            f"config.logit_adjustment is set, but {type(self).__name__} has no softmax to adjust: set it to 0"
        )

    def growing(self) -> dict[Path, Growing]:
        """The parameters that get longer with the first digit, or where that is the class, with the classes."""
        raise NotImplementedError

    def begin(self, params: dict, trained: Placed, new: Placed) -> dict:
        """The parameters with rows of new classes begun from the means of their features, see `heads.beginning`."""
        raise NotImplementedError

    def memory_advice(self, batch_size: int) -> str:
        """What else to lower where a step does not fit, with figures: the end of an error message, or nothing."""
        return ""

    @property
    def table_parts(self) -> int:
        """How many equal parts the rows of a large table make: as many as devices, or a multiple of them."""
        return per_row.axis_size("class")

    def class_table(self, name: str, init: nn.initializers.Initializer, *shape: int) -> Any:
        """A parameter whose rows are split over mesh axis 'class', filled up with zero rows to `table_parts` parts.

        The values are drawn at `shape`, so the same key gives the same table on every mesh.
        """
        if name in self.sparse_tables() and self.has_variable("params", name):
            # Perhaps some of its blocks only: `Module.param` would insist on the whole table's shape.
            table: Any = nn.unbox(self.get_variable("params", name))
            return table
        rows = padded_rows(shape[0], self.table_parts)

        storage = self.storage_of(name)

        def padded(key):
            values = init(key, shape, jnp.float32)
            filled = jnp.pad(values, [(0, rows - shape[0]), *[(0, 0)] * (len(shape) - 1)])
            return jax.tree.map(_split_rows, store(filled, storage))

        table = self.param(name, padded)
        return table

    def storage_of(self, name: str) -> str:
        """How a table is kept, see `mhe_jax.ops.storage`."""
        if self.storage not in STORAGES:
            raise ValueError(f"storage is {self.storage!r}; it must be one of {', '.join(STORAGES)}")
        return self.storage if name in self.owned_tables() else "float32"

    def live_rows(self, rows: int, first: int = 0, size: int | None = None) -> jax.Array:
        """Which rows of a table are classes, bool [rows]; they are `size` codes from `first` on, by default all."""
        space = self.label_space
        size = space.num_classes if size is None else size
        free = [code - first for code in space.free if first <= code < first + size]
        live = jnp.arange(rows) < size
        return live.at[jnp.array(free)].set(False) if free else live

    def check_k(self, k: int) -> None:
        """Raises ValueError unless there are k classes."""
        if not 1 <= k <= self.label_space.num_live:
            raise ValueError(f"k={k} classes asked for, but there are {self.label_space.num_live} (k starts at 1)")


def _split_rows(array: jax.Array) -> nn.Partitioned:
    return nn.Partitioned(array, ("class", *[None] * (array.ndim - 1)))


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
    """Affine map with torch.nn.Linear's initial values: [B, features_dim] -> float32 [B, outputs]."""

    features_dim: int
    outputs: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x):
        init = torch_linear(self.features_dim)
        kernel = self.param("kernel", init, (self.features_dim, self.outputs), jnp.float32)
        y = product("bd,dn->bn", x, kernel)
        return y + self.param("bias", init, (self.outputs,), jnp.float32)[None, :] if self.use_bias else y


def log_mean_exp(values: np.ndarray, groups: np.ndarray, num_groups: int) -> np.ndarray:
    """The logarithm of the mean of exp(values) in each group: float [C], int [C] -> float32 [num_groups].

    A group without values has the lowest of all: it may compete in a softmax, and must not win there by being empty.
    """
    highest = values.max()
    counts = np.bincount(groups, minlength=num_groups)
    sums = np.bincount(groups, np.exp(values - highest, dtype=np.float64), num_groups)
    means = np.log(np.maximum(sums, np.finfo(np.float64).tiny) / np.maximum(counts, 1)) + highest
    return np.where(counts > 0, means, values.min()).astype(np.float32)


def check_smoothing(label_smoothing: float) -> None:
    """Raises ValueError unless `label_smoothing` is a probability that can be spread over the classes."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"config.head.label_smoothing is {label_smoothing}; it must be in [0, 1)")
