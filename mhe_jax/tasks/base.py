"""What all tasks share: how the train step and predictions speak to the head."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax

from mhe_jax.heads.base import Context, Head


@dataclasses.dataclass(frozen=True)
class Task:
    """A backbone and a head bound to the meaning of a batch, which has at least 'label' and 'weight' [B]."""

    backbone: nn.Module
    head: Head

    def head_loss(
        self, params: Any, features: jax.Array, batch: dict, context: Context
    ) -> tuple[jax.Array, dict, dict]:
        """Loss of each example, float32 [B], further per-example metrics, and the head's statistics after the batch."""
        found: Any = self.head.apply({"params": params}, features, batch["label"], context, method="loss")
        loss, values = found
        return loss, values, self.head.updated_statistics(context.statistics or {}, values, batch["weight"])

    def head_blocks(self, params: Any, features: jax.Array, batch: dict, context: Context) -> dict[str, jax.Array]:
        """The blocks of the head's sparse tables that `head_loss` will use."""
        blocks: Any = self.head.apply({"params": params}, features, batch["label"], context, method="blocks")
        return blocks

    def _head(self, weights: dict, method: str, *args: Any) -> Any:
        return self.head.apply({"params": weights["params"]["head"]}, *args, method=method)
