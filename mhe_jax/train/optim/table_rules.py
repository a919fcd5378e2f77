"""Optimizers of one large table, written for any rows of it: `config.table_optimizer`.

A rule takes the gradient into its slots, `absorb`, and then moves the rows, `move`, by the slots as they are after it:
`mhe_jax.ops.owned` says why they are apart. Which rows a step brings is not the rule's affair: all (`updates='dense'`),
those of the blocks in use (`'sparse'`), or block after block while the gradient is made (`'owned'`). Rows that a step
does not bring stay as they are, and so do their slots, but for those of 'dense' no rows do.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mhe_jax.ops.owned import Slots
from mhe_jax.ops.storage import STORAGES, Stored

_UPDATES = ("dense", "sparse", "owned")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """What all rules of tables have.

    Attributes:
      updates: 'dense' makes the gradient of the whole table, and moves all of it; 'sparse' gathers the blocks that a
        step uses, moves them, and puts them back; 'owned' moves rows in the pass that makes their gradient, which is
        never whole, see `mhe_jax.ops.owned`.
      storage: how an owned table is kept, see `mhe_jax.ops.storage`; 'bfloat16' and 'float8' are rounded by chance.
      moments: how an owned table's slots of its own shape are kept, if it has any, 'float32' or 'bfloat16', likewise.
      rate: factor of the schedule's learning rate.
      weight_decay: how fast weights shrink.

    Raises:
      ValueError: for updates that there is not, or numbers that are not kept so.
    """

    updates: str = "sparse"
    storage: str = "float32"
    moments: str = "float32"
    rate: float = 1.0
    weight_decay: float = 0.0

    def __post_init__(self):
        path, kinds = "config.table_optimizer", ", ".join(_UPDATES)
        if self.updates not in _UPDATES:
            raise ValueError(f"{path}.updates is {self.updates!r}; it must be one of {kinds}")
        for field, known in (("storage", tuple(STORAGES)), ("moments", ("float32", "bfloat16"))):
            known = known if self.updates == "owned" else ("float32",)
            if (said := getattr(self, field)) not in known:
                raise ValueError(
                    f"{path}.{field} is {said!r}; of updates {self.updates!r} it must be one of {', '.join(known)}"
                )
        if self.moments != "float32" and not self.wide:
            raise ValueError(
                f"{path}.moments is {self.moments!r}, but this rule keeps nothing of the table's shape: set it to "
                "'float32'"
            )

    @property
    def wide(self) -> tuple[str, ...]:
        """Names of the slots that have the table's shape."""
        return ()

    def init(self, table: Stored) -> Slots:
        """The slots before the first step of a table [..., D]."""
        return {name: jnp.zeros(table.shape, STORAGES[self.moments]) for name in self.wide}

    def absorb(self, rows: jax.Array, grads: jax.Array, slots: Slots) -> Slots:
        """The slots after a step, in float32, of rows float32 [..., D] as they are before it."""
        return slots

    def move(self, rows: jax.Array, grads: jax.Array, slots: Slots, learning_rate: Any) -> jax.Array:
        """The rows after a step, from the slots after it; `learning_rate` is the schedule's."""
        raise NotImplementedError

    def step(self, rows: jax.Array, grads: jax.Array, slots: Slots, learning_rate: Any) -> tuple[jax.Array, Slots]:
        """Both at once."""
        slots = self.absorb(rows, grads, slots)
        return self.move(rows, grads, slots, learning_rate), slots


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Rule):
    """torch.optim.SGD, with the decay added to the gradient; without momentum it has no state at all.

    Row-sparse, with momentum, it is PartialFC's update (arXiv 2203.15565): its first version swaps the sampled rows and
    their momentum into the optimizer, so that the others neither decay nor move on. In the place of .9 of momentum ten
    times the rate has the same effect in the long run.

    Attributes:
      momentum: share of the last update that the next one keeps; 0: none is kept.
    """

    momentum: float = 0.0

    @property
    def wide(self):
        return ("trace",) if self.momentum else ()

    def absorb(self, rows, grads, slots):
        return {"trace": self._update(rows, grads) + self.momentum * slots["trace"]} if self.momentum else slots

    def move(self, rows, grads, slots, learning_rate):
        update = slots["trace"] if self.momentum else self._update(rows, grads)
        return rows - self.rate * learning_rate * update

    def _update(self, rows, grads):
        return grads + self.weight_decay * rows if self.weight_decay else grads


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowwiseAdagrad(Rule):
    """Adagrad with one sum of squares for each row, as recommender systems train embeddings.

    `rows <- rows - rate * (gradient / (sqrt(sum of its mean squares) + eps) + weight_decay * rows)`: the decay is
    decoupled, and scaled by the learning rate. Source: FBGEMM's exact row-wise Adagrad (Khudia et al., arXiv
    2101.05615; the rule itself goes back to Duchi et al. 2011).

    A row's first step is as long as its rate, however small its gradient: for a softmax take a small one, such as .03
    with the schedule's (docs/log.md).

    Attributes:
      eps: added to the root, above 0.
    """

    updates: str = "owned"
    eps: float = 1e-10

    def __post_init__(self):
        super().__post_init__()
        if self.eps <= 0:
            raise ValueError(
                f"config.table_optimizer.eps is {self.eps}; it must be above 0: rows without gradient exist"
            )

    def init(self, table):
        return {"squares": jnp.zeros(table.shape[:-1], jnp.float32)}

    def absorb(self, rows, grads, slots):
        return {"squares": slots["squares"] + jnp.square(grads).mean(axis=-1)}

    def move(self, rows, grads, slots, learning_rate):
        scaled = grads / (jnp.sqrt(slots["squares"]) + self.eps)[..., None]
        return rows - self.rate * learning_rate * (scaled + self.weight_decay * rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adagrad(Rule):
    """`rows <- rows - rate * gradient / (sqrt(sum of its squares) + eps)` (Duchi et al. 2011), torch.optim.Adagrad.

    The decay is added to the gradient.

    Attributes:
      eps: added to the root.
    """

    eps: float = 1e-10

    @property
    def wide(self):
        return ("squares",)

    def absorb(self, rows, grads, slots):
        return {"squares": slots["squares"] + (grads + self.weight_decay * rows) ** 2}

    def move(self, rows, grads, slots, learning_rate):
        grads = grads + self.weight_decay * rows
        return rows - self.rate * learning_rate * grads / (jnp.sqrt(slots["squares"]) + self.eps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Rule):
    """torch.optim.AdamW of each row over the steps that brought it: decoupled decay, scaled by the learning rate.

    `count` of these corrects the bias, so that the first uses are not damped.

    Attributes:
      b1: decay of the mean of the gradients.
      b2: decay of the mean of their squares.
      eps: added to the root of the squares.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    @property
    def wide(self):
        return ("mean", "square")

    def init(self, table):
        # Blocks are brought whole, but of an owned table rows are; its slots go through `jax.grad`, as reals alone do.
        owned = self.updates == "owned"
        count = jnp.zeros(table.shape[:-1] if owned else table.shape[:1], jnp.float32 if owned else jnp.int32)
        return {**super().init(table), "count": count}

    def absorb(self, rows, grads, slots):
        mean = self.b1 * slots["mean"] + (1 - self.b1) * grads
        square = self.b2 * slots["square"] + (1 - self.b2) * grads**2
        return {"mean": mean, "square": square, "count": slots["count"] + 1}

    def move(self, rows, grads, slots, learning_rate):
        count = slots["count"].astype(jnp.float32)
        count = count.reshape(*count.shape, *[1] * (rows.ndim - count.ndim))
        mean, square = slots["mean"] / (1 - self.b1**count), slots["square"] / (1 - self.b2**count)
        return rows - self.rate * learning_rate * (mean / (jnp.sqrt(square) + self.eps) + self.weight_decay * rows)


def none(
    updates: str = "sparse",
    storage: str = "float32",
    moments: str = "float32",
    rate: float = 1.0,
    weight_decay: float = 0.0,
    momentum: float | None = None,
    b1: float | None = None,
    b2: float | None = None,
    eps: float | None = None,
) -> None:
    """No rule: `config.optimizer` trains the tables with all other parameters.

    Args:
      updates, storage, moments, rate, weight_decay: of the rules, for the command line to set with the name; here as
        they are.
      momentum, b1, b2, eps: of single rules; here they are an error.
    """
    fields = {"updates": updates, "storage": storage, "moments": moments, "rate": rate, "weight_decay": weight_decay}
    changed = {name: value for name, value in fields.items() if value != getattr(Rule, name)}
    changed |= {name: value for name, value in (("momentum", momentum), ("b1", b1), ("b2", b2), ("eps", eps)) if value}
    if changed:
        said = ", ".join(f"{name} {value!r}" for name, value in changed.items())
        raise ValueError(
            f"config.table_optimizer has {said}, but with the name 'none' config.optimizer trains the tables: set name "
            "to one of " + ", ".join(sorted(set(TABLE_OPTIMIZERS) - {"none"})) + ", or leave the section out, as the "
            "argument `dense` does of configs that own their tables"
        )


TABLE_OPTIMIZERS: dict[str, Callable[..., Rule | None]] = {
    "none": none,
    "sgd": SGD,
    "rowwise_adagrad": RowwiseAdagrad,
    "adagrad": Adagrad,
    "adamw": AdamW,
}
