"""Many labels an example, measured by the labels ranked first; and documents with a text encoder below the head."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import Context
from mhe_jax.ops.ranking import drop_filtered, drop_labels, ranking_metrics
from mhe_jax.tasks import by_band
from mhe_jax.tasks.base import Task

# Lengths of the rankings that are measured; the longest decides how many labels are asked of the head.
KS = (1, 3, 5)


@dataclasses.dataclass(frozen=True)
class Ranking(Task):
    """What many labels an example mean: batches have 'label' int32 [B, W], padded with -1.

    In training the batch may hold `ignored` int32 [B, F], labels that may be there or not, which its loss leaves out.
    For evaluation it may hold `filtered` int32 [B, F], labels left out of the ranking, `inverse_propensity`
    float32 [L], and 'classes' of `by_band.of_rankings`.
    """

    one_class = False

    def head_loss(
        self, params: Any, features: jax.Array, batch: dict, context: Context
    ) -> tuple[jax.Array, dict, dict]:
        """As of every task, without the labels that are `ignored`; raises ValueError of a head that cannot do so."""
        if "ignored" in batch:
            if not self.head.leaves_out:
                raise ValueError(
                    "the training data has ignored labels, which config.head.name = 'ohe' alone leaves out of its loss"
                )
            context = dataclasses.replace(context, ignored=batch["ignored"])
        return super().head_loss(params, features, batch, context)

    def evaluate(self, weights: dict, batch: dict) -> dict[str, Any]:
        """Ranking metrics per document as (numerator, denominator), see `mhe_jax.ops.ranking`.

        A document without labels is not counted: the denominator is 0. One whose labels are all `filtered` is, as 0.
        """
        features = self._features(weights, self.asked(batch))
        filtered, labels = batch.get("filtered"), batch["label"]
        counted = (labels >= 0).any(axis=1)
        num_labels = self.head.label_space.num_live
        ks = tuple(k for k in KS if k <= num_labels)
        spare = 0 if filtered is None else filtered.shape[1]
        scores, ids = self._head(weights, "topk", features, min(max(ks) + spare, num_labels))
        if filtered is not None:
            _, ids = drop_filtered(scores, ids, filtered, max(ks))
            labels = drop_labels(labels, filtered)
        values = ranking_metrics(ids, labels, batch.get("inverse_propensity"), ks)
        if "classes" in batch:
            values |= by_band.of_rankings(ids, labels, max(ks), batch["classes"])
        if hasattr(self.head, "group_topk"):
            space = self.head.label_space
            group_ks = tuple(k for k in KS if k <= space.head_sizes[0])
            groups = jnp.where(labels < 0, -1, labels // space.strides[0])
            found = ranking_metrics(self._head(weights, "group_topk", features, max(group_ks)), groups, None, group_ks)
            values |= {f"group_{name}": value for name, value in found.items() if name.startswith("P@")}
        return {name: (part, jnp.where(counted, whole, 0.0)) for name, (part, whole) in values.items()}

    @staticmethod
    def is_better(new: dict, old: dict | None) -> bool:
        """Whether an evaluation beats the best so far: by precision at 5 (or the longest ranking there is)."""
        name = max((name for name in new if name.startswith("P@")), key=lambda name: int(name[2:]))
        return old is None or new[name] > old[name]


@dataclasses.dataclass(frozen=True)
class Documents(Task):
    """An encoder below the head, on batches {'input_ids' int32 [B, T], 'length' [B], 'label', 'weight' [B]}.

    Attributes:
      example: what of a batch the backbone takes, in the order of its arguments, as shapes of one example:
        tokens, or features that another network made.
    """

    example: Mapping[str, jax.ShapeDtypeStruct]

    def init(self, key: jax.Array) -> tuple[dict, Any]:
        """Parameters {'backbone', 'head'} with their partitioning metadata; encoders keep no running statistics."""
        backbone_key, head_key = jax.random.split(key)
        inputs = [jnp.ones(leaf.shape, leaf.dtype) for leaf in self.example.values()]
        backbone = self.backbone.init(backbone_key, *inputs, train=False)
        features = jnp.zeros((1, self.head.features_dim), jnp.float32)
        head = self.head.init(head_key, features, 1, method="topk")
        return {"backbone": backbone.get("params", {}), "head": head["params"]}, {}

    def asked(self, batch: dict) -> dict[str, jax.Array]:
        """The documents of a batch, {'input_ids', 'length'}, or what else the backbone takes."""
        return {name: batch[name] for name in self.example}

    def train_inputs(self, batch: dict, key: jax.Array) -> tuple[tuple[jax.Array, ...], dict]:
        """Tokens and lengths, and the batch; texts are not augmented."""
        return tuple(self.asked(batch).values()), batch

    def train_features(self, params: Any, batch_stats: Any, inputs, key: jax.Array, train) -> tuple[jax.Array, Any]:
        """Features [B, D] of the encoder. `train`, possibly traced, says whether dropout is on."""
        features: Any = self.backbone.apply({"params": params}, *inputs, train=train, rngs={"dropout": key})
        return features, batch_stats

    def frozen_features(self, params: Any, batch_stats: Any, inputs: tuple[jax.Array, ...]) -> Any:
        """Features [B, D] of the encoder as evaluation has them, without dropout."""
        return self.backbone.apply({"params": params}, *inputs, train=False)

    def predict(self, weights: dict, inputs: dict, k: int) -> tuple[jax.Array, jax.Array]:
        """Log-scores and ids of the k best labels of documents {'input_ids', 'length'}, each [B, k]."""
        return self._head(weights, "topk", self._features(weights, inputs), k)

    def embed(self, weights: dict, inputs: dict) -> jax.Array:
        """Features of documents {'input_ids', 'length'} as the head sees them, float32 [B, D]."""
        return self._features(weights, inputs).astype(jnp.float32)

    def _features(self, weights: dict, batch: dict) -> Any:
        inputs = tuple(self.asked(batch).values())
        return self.frozen_features(weights["params"]["backbone"], weights["batch_stats"], inputs)


@dataclasses.dataclass(frozen=True)
class MultiLabel(Ranking, Documents):
    """Documents with any number of labels each."""
