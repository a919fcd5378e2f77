"""What all tasks share: how the train step and predictions speak to the head."""

import contextlib
import dataclasses
import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mhe_jax.heads.base import Context, Head

# Classes among which the neighbours of one are found, at least.
_COMPARED = 64


@dataclasses.dataclass(frozen=True)
class Task:
    """A backbone and a head bound to the meaning of a batch, which has at least 'label' and 'weight' [B].

    Attributes:
      backbone: from inputs to features [B, D].
      head: from features to a loss, or to classes.
      head_precision: of the head's float32 products, see `jax.default_matmul_precision`; None: that of the context.
      teacher_weight, temperature: of `mhe_jax.data.teacher`, where a batch has what a teacher says.
    """

    # Whether an example has one class, rather than any number of labels.
    one_class: ClassVar[bool]

    backbone: nn.Module
    head: Head
    head_precision: str | None = dataclasses.field(default=None, kw_only=True)
    teacher_weight: float = dataclasses.field(default=0.0, kw_only=True)
    temperature: float = dataclasses.field(default=1.0, kw_only=True)

    def head_products(self) -> contextlib.AbstractContextManager:
        """The context in which the head, and its gradient, have to be traced."""
        return jax.default_matmul_precision(self.head_precision) if self.head_precision else contextlib.nullcontext()

    @property
    def repeats(self) -> int:
        """How often each example is in a training batch."""
        return 1

    def asked(self, batch: dict) -> Any:
        """What `predict` and `embed` take of a batch."""
        raise NotImplementedError

    def head_loss(
        self, params: Any, features: jax.Array, batch: dict, context: Context
    ) -> tuple[jax.Array, dict, dict]:
        """Loss of each example, float32 [B], further per-example metrics, and the head's statistics after the batch.

        A batch may have 'target' [B, W], the grades of many labels, or of one label what a teacher says: 'taught' int
        [B, K], its classes, the best first, and 'taught_target' [B, K], their probabilities, 0 where it says nothing.
        Where the loss is weighted the metrics have a 'loss' that is not, which is the one to show.
        """
        labels, apply = batch["label"], functools.partial(self._apply, params, features, method="loss")
        if "taught" not in batch:
            found: Any = apply(labels, dataclasses.replace(context, targets=batch.get("target")))
            loss, values = found
        else:
            taught, targets = batch["taught"], batch["taught_target"]
            share = self.teacher_weight * targets.sum(axis=1)
            if self.temperature == 1:
                # One cross-entropy: it is linear in the distribution that is asked for.
                labels = jnp.concatenate([labels[:, None], taught], axis=1)
                targets = jnp.concatenate([1 - share[:, None], self.teacher_weight * targets], axis=1)
                loss, values = apply(labels, dataclasses.replace(context, targets=targets))
            else:
                of_labels, values = apply(labels, context)
                of_teacher, _ = apply(
                    taught, dataclasses.replace(context, targets=targets, temperature=self.temperature)
                )
                loss = (1 - share) * of_labels + share * self.temperature**2 * of_teacher
        return loss, values, self.head.updated_statistics(context.statistics or {}, values, batch["weight"])

    def head_blocks(self, params: Any, features: jax.Array, batch: dict, context: Context) -> dict[str, jax.Array]:
        """The blocks of the head's sparse tables that `head_loss` will use."""
        blocks: Any = self._apply(params, features, batch["label"], context, method="blocks")
        return blocks

    def neighbours(self, weights: dict, ids: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
        """The k classes that are most like each of some classes: cosines and ids [N, k], best first, -inf and -1 where
        a narrow beam finds fewer.

        What a class is like is the direction in which its log-probability rises fastest from features of zero: of a
        one-hot head the row of the class without the mean of all rows, of others what their digits add up to; of heads
        on cosines the rows are of length 1. Compared are the classes which are most probable of features in that
        direction.
        """
        compared = min(max(_COMPARED, 2 * k), self.head.label_space.num_live)
        classes = self._directions(weights, ids)
        found, near = self._head(weights, "topk", classes * classes.shape[1] ** 0.5, compared)
        directions = self._directions(weights, near.clip(0).reshape(-1)).reshape(*near.shape, -1)
        cosines = (directions * classes[:, None]).sum(-1)
        cosines = jnp.where(jnp.isneginf(found) | (near == ids[:, None]), -jnp.inf, cosines)
        best, places = jax.lax.top_k(cosines, k)
        return best, jnp.where(jnp.isneginf(best), -1, jnp.take_along_axis(near, places, 1))

    def _directions(self, weights: dict, ids: jax.Array) -> jax.Array:
        """Of length 1, or 0 where a class has none: [N] -> float32 [N, D]."""
        zeros = jnp.zeros((len(ids), self.head.features_dim), jnp.float32)
        rows = jax.grad(lambda features: self._head(weights, "linear_scores", features, ids[:, None]).sum())(zeros)
        lengths = jnp.linalg.norm(rows, axis=1, keepdims=True)
        return rows / jnp.where(lengths > 0, lengths, 1)

    def _features(self, weights: dict, inputs: Any) -> jax.Array:
        """Features [B, D] as evaluation has them, of what `asked` takes of a batch."""
        raise NotImplementedError

    def _head(self, weights: dict, method: str, *args: Any) -> Any:
        return self._apply(weights["params"]["head"], *args, method=method)

    def _apply(self, params: Any, *args: Any, method: str) -> Any:
        with self.head_products():
            return self.head.apply({"params": params}, *args, method=method)
