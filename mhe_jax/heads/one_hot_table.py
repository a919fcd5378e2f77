"""OneHotTable: a row of weights and a bias for each class, what one-hot heads have in common."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.heads import beginning
from mhe_jax.heads.base import NOTHING, Context, Head, Linear, padded_rows, torch_linear
from mhe_jax.heads.beginning import Placed
from mhe_jax.heads.growth import Growing
from mhe_jax.ops import per_row, sharded
from mhe_jax.ops.storage import Stored
from mhe_jax.settings import option


class Part(NamedTuple):
    """Classes `first .. first + size - 1`, with rows of one width in a table of their own.

    Attributes:
      name: of the table.
      queries: what its rows are multiplied with, in the compute dtype, [B, width].
      kernel: [rows, width], with rows behind those of the classes that fill it up to a multiple of the devices.
      bias: [rows], or None.
      is_class: which rows are classes, bool [rows].
      alone: whether all classes are these.
    """

    name: str
    first: int
    size: int
    queries: jax.Array
    kernel: Stored
    bias: jax.Array | None
    is_class: jax.Array
    alone: bool

    def places(self, ids: jax.Array) -> jax.Array:
        """The rows of classes, of any shape; -1 for classes that are none of these."""
        if self.alone:
            return ids
        return jnp.where((ids >= self.first) & (ids < self.first + self.size), ids - self.first, -1)


class OneHotTable(Head):
    """One row of weights per class, scored block by block, on the features or on a short projection of them.

    Parameters: kernel [C, D], bias [C]; split over 'class'. With a bottleneck kernel [C, bottleneck], and
    projection/{kernel [D, bottleneck], bias}, which every device has: a linear map, so that the logits are those of a
    table of that rank. With `frequent` = n classes before the others, which alone have the bottleneck then, kernel is
    [n, D] and tail_kernel [C - n, bottleneck], with bias [n] and tail_bias [C - n].

    Attributes:
      bottleneck: width of the projection; 0: there is none.
      frequent: how many of the first classes have rows of the whole width; 0: all have rows of one width.
      use_bias: whether classes have a bias, and the projection.
      block_size: classes per block; 0 chooses one that keeps a block of logits within 64 MiB.
    """

    bottleneck: int = 0
    frequent: int = 0
    use_bias: bool = True
    block_size: int = option(0, free=True)

    def __post_init__(self):
        super().__post_init__()
        classes = self.label_space.num_classes
        if self.bottleneck < 0:
            raise ValueError(f"config.head.bottleneck is {self.bottleneck}; it must be at least 0")
        if self.frequent < 0 or self.frequent >= classes:
            raise ValueError(
                f"config.head.frequent is {self.frequent}; of {classes} classes it must be in 1 .. {classes - 1}, or 0 "
                "for rows of one width"
            )
        if self.frequent and not self.bottleneck:
            raise ValueError(
                f"config.head.frequent is {self.frequent}, but bottleneck is 0: it must be the width of the other "
                "classes' rows"
            )

    def setup(self):
        classes = self.label_space.num_classes
        if self.bottleneck:
            self.projection = Linear(self.features_dim, self.bottleneck, self.use_bias)
        narrow, first = self.bottleneck or self.features_dim, self.frequent or classes
        self.kernel, self.bias = self._table("", first, self.features_dim if self.frequent else narrow)
        if self.frequent:
            self.tail_kernel, self.tail_bias = self._table("tail_", classes - first, narrow)

    def bias_init(self, width: int) -> nn.initializers.Initializer:
        """What the biases of rows of a width start from."""
        return torch_linear(width)

    def owned_tables(self):
        return ("kernel", "tail_kernel") if self.frequent else ("kernel",)

    def growing(self):
        if not self.frequent:
            return dict.fromkeys([("kernel",), ("bias",)], Growing(0, self.label_space.num_classes))
        first, rest = Growing(0, self.frequent), Growing(0, self.label_space.num_classes - self.frequent)
        of_first = dict.fromkeys([("kernel",), ("bias",)], first)
        return {**of_first, **dict.fromkeys([("tail_kernel",), ("tail_bias",)], rest)}

    def begin(self, params, trained, new):
        classes, first = self.label_space.num_classes, self.frequent
        if not first:
            return self._begun(params, "", self.bottleneck > 0, trained, new)
        params = self._begun(params, "", False, trained.among(0, first), new.among(0, first))
        return self._begun(params, "tail_", True, trained.among(first, classes), new.among(first, classes))

    def _begun(self, params: dict, prefix: str, narrow: bool, trained: Placed, new: Placed) -> dict:
        """`begin` of one of the tables, whose rows the codes are."""
        if not len(trained.codes) or not len(new.codes):
            return params
        points = trained.means, new.means
        if narrow:
            kernel, bias = params["projection"]["kernel"], params["projection"].get("bias", 0)
            points = points[0] @ kernel + bias, points[1] @ kernel + bias
        names = [f"{prefix}{name}" for name in ("kernel", "bias") if f"{prefix}{name}" in params]
        found = beginning.of_tables([params[name] for name in names], points, (trained.codes, new.codes))
        return {**params, **dict(zip(names, found, strict=True))}

    def parts(self, features: jax.Array) -> tuple[Part, ...]:
        """The classes by the tables that they lie in, for features [B, D]."""
        features = features.astype(self.dtype)
        narrow = self.projection(features).astype(self.dtype) if self.bottleneck else features
        classes, first = self.label_space.num_classes, self.frequent
        if not first:
            live = self.live_rows(self.kernel.shape[0])
            return (Part("kernel", 0, classes, narrow, self.kernel, self.bias, live, True),)
        front, behind = (0, first), (first, classes - first)
        live = self.live_rows(self.kernel.shape[0], *front)
        tail_live = self.live_rows(self.tail_kernel.shape[0], *behind)
        tail = Part("tail_kernel", *behind, narrow, self.tail_kernel, self.tail_bias, tail_live, False)
        return Part("kernel", *front, features, self.kernel, self.bias, live, False), tail

    def softmax_statistics(
        self, features: jax.Array, labels: jax.Array, with_total: bool, context: Context = NOTHING
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`chunked.blocked_lse` over all classes: log-sum-exp, logit of labels int [B], and sum of logits, [B] each.

        Labels may be soft, int [B, W] with `context.targets`: their logits are then averaged.
        """

        def of(part: Part) -> tuple[jax.Array, jax.Array, jax.Array]:
            bias, raised = part.bias, (context.adjustment or {}).get(part.name)
            if raised is not None:
                bias = raised if bias is None else bias + raised
            bias = None if bias is None else context.cooled(bias)
            among = part.places(labels), part.is_class, self.block_size, with_total, context.visits.get(part.name)
            queries = context.cooled(part.queries)
            found: tuple = sharded.lse(queries, part.kernel, bias, *among, context.targets)
            return found

        lses, targets, totals = zip(*map(of, self.parts(features)), strict=True)
        return functools.reduce(jnp.logaddexp, lses), sum(targets[1:], targets[0]), sum(totals[1:], totals[0])

    def adjustment(self, log_prior: np.ndarray) -> dict[str, np.ndarray]:
        """For each table, what the biases of its rows are raised by; exactly the logits."""
        first = self.frequent or len(log_prior)
        parts = {"kernel": log_prior[:first], "tail_kernel": log_prior[first:]}
        fill = lambda part: np.pad(part, (0, padded_rows(len(part), self.table_parts) - len(part)))
        return {name: fill(part) for name, part in parts.items() if len(part)}

    def best_logits(self, features: jax.Array, k: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The k largest logits [B, k], their classes, and the log-sum-exp over all [B]."""
        self.check_k(k)
        parts = self.parts(features)
        found = [sharded.topk(one.queries, one.kernel, one.bias, one.is_class, k, self.block_size) for one in parts]
        if len(found) == 1:
            return found[0]
        # Where a part has fewer than k classes, the places without one are -inf.
        ids = [jnp.where(at < 0, -1, at + one.first) for one, (_, at, _) in zip(parts, found, strict=True)]
        best, order = per_row.top_k(jnp.concatenate([logits for logits, _, _ in found], axis=1), k)
        lse = functools.reduce(jnp.logaddexp, [lse for _, _, lse in found])
        return best, jnp.take_along_axis(jnp.concatenate(ids, axis=1), order, axis=1), lse

    def logits_of(self, features: jax.Array, ids: jax.Array) -> jax.Array:
        """Logits of given classes: [B, D], int [B, M] -> float32 [B, M]."""

        def of(part: Part) -> jax.Array:
            places = part.places(ids)
            rows = part.kernel.reshape(-1, 1, part.kernel.shape[1])  # each class is a block of one
            logits = sharded.block_logits(rows, part.queries, places)[:, :, 0]  # 0 where there is no row
            if part.bias is None:
                return logits
            bias = part.bias[places]
            return logits + (bias if part.alone else jnp.where(places < 0, 0.0, bias))

        first, *others = map(of, self.parts(features))
        return sum(others, first)

    def _table(self, prefix: str, classes: int, width: int) -> tuple:
        """Weights [classes, width] and biases [classes], or None, of a part."""
        kernel = self.class_table(f"{prefix}kernel", torch_linear(width), classes, width)
        bias = self.class_table(f"{prefix}bias", self.bias_init(width), classes) if self.use_bias else None
        return kernel, bias
