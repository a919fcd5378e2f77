"""What all tasks share: how the train step and predictions speak to the head."""

import contextlib
import dataclasses
from typing import Any

import flax.linen as nn
import jax

from mhe_jax.heads.base import Context, Head


@dataclasses.dataclass(frozen=True)
class Task:
    """A backbone and a head bound to the meaning of a batch, which has at least 'label' and 'weight' [B].

    Attributes:
      backbone: from inputs to features [B, D].
      head: from features to a loss, or to classes.
      head_precision: of the head's float32 products, see `jax.default_matmul_precision`; None: that of the context.
    """

    backbone: nn.Module
    head: Head
    head_precision: str | None = dataclasses.field(default=None, kw_only=True)

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
        """Loss of each example, float32 [B], further per-example metrics, and the head's statistics after the batch."""
        found: Any = self._apply(params, features, batch["label"], context, method="loss")
        loss, values = found
        return loss, values, self.head.updated_statistics(context.statistics or {}, values, batch["weight"])

    def head_blocks(self, params: Any, features: jax.Array, batch: dict, context: Context) -> dict[str, jax.Array]:
        """The blocks of the head's sparse tables that `head_loss` will use."""
        blocks: Any = self._apply(params, features, batch["label"], context, method="blocks")
        return blocks

    def _head(self, weights: dict, method: str, *args: Any) -> Any:
        return self._apply(weights["params"]["head"], *args, method=method)

    def _apply(self, params: Any, *args: Any, method: str) -> Any:
        with self.head_products():
            return self.head.apply({"params": params}, *args, method=method)
