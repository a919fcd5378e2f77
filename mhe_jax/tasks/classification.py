"""Single-label classification: one class per example, top-1 and top-5."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.images.mixing import neighbour
from mhe_jax.data.images.recipes import Augmentation
from mhe_jax.heads.base import Context
from mhe_jax.tasks import by_band, mixed
from mhe_jax.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class OneClass(Task):
    """What one class an example means: batches have 'label' int32 [B]."""

    one_class = True

    def evaluate(self, weights: dict, batch: dict) -> dict[str, Any]:
        """Per-example negative log-probability, top-1 and top-5 hits, each float32 [B].

        With what `by_band.of_labels` needs as 'classes' of the batch, top-1 by the frequency of the classes too.
        """
        features = self._features(weights, self.asked(batch))
        k = min(5, self.head.label_space.num_live)
        labels = batch["label"][:, None]
        _, ids, scores = self._head(weights, "topk_and_scores", features, k, labels)
        hits = ids == labels
        found = {
            "loss": -scores[:, 0],
            "top1": hits[:, 0].astype(jnp.float32),
            "top5": hits.any(axis=1).astype(jnp.float32),
        }
        if "classes" not in batch:
            return found
        return found | by_band.of_labels("top1", found["top1"], batch["label"], batch["classes"])

    @staticmethod
    def is_better(new: dict, old: dict | None) -> bool:
        """Whether an evaluation beats the best so far: by top-1, the first of equals stays."""
        return old is None or new["top1"] > old["top1"]


@dataclasses.dataclass(frozen=True)
class Pictures(Task):
    """A backbone below the head, on batches {'image': [B, ...], 'label', 'weight': float32 [B]}.

    Of features that another network made the batch has 'features' [B, D] in the place of 'image'; what is said of
    images here is true of them.

    augmentation: what training does to images beside what `data` does, see `mhe_jax.data.images.recipes`.
    """

    data: ImageData | FeatureData
    augmentation: Augmentation | None = dataclasses.field(default=None, kw_only=True)

    @property
    def repeats(self) -> int:
        return self.augmentation.repeats if self.augmentation else 1

    def init(self, key: jax.Array) -> tuple[dict, Any]:
        """Parameters {'backbone', 'head'} with their partitioning metadata, and the backbone's running statistics."""
        backbone_key, head_key = jax.random.split(key)
        images = jnp.zeros((1, *self.data.input_shape), jnp.float32)
        backbone = self.backbone.init(backbone_key, images, train=False)
        features = jnp.zeros((1, self.head.features_dim), jnp.float32)
        head = self.head.init(head_key, features, 1, method="topk")
        return {"backbone": backbone.get("params", {}), "head": head["params"]}, backbone.get("batch_stats", {})

    def asked(self, batch: dict) -> jax.Array:
        """The images of a batch."""
        return batch[self.data.input_name]

    def train_inputs(self, batch: dict, key: jax.Array) -> tuple[jax.Array, dict]:
        """Augmented, normalised images, float32 [B, H, W, C], and the batch, with shares and other labels if mixed."""
        images = self.asked(batch)
        if self.augmentation is None or isinstance(self.data, FeatureData):
            return self.data.augment(images, key), batch
        view_key, distort_key, erase_key, mix_key = jax.random.split(key, 4)
        images = self.augmentation.distort(images, distort_key, self.data.moments[0])
        images = self.augmentation.erased(self.data.augment(images, view_key), erase_key)
        if self.augmentation.mixes:
            images, share = self.augmentation.mixed(images, mix_key)
            batch = {**batch, "share": share, "other_label": neighbour(batch["label"])}
        return images, batch

    def head_loss(
        self, params: Any, features: jax.Array, batch: dict, context: Context
    ) -> tuple[jax.Array, dict, dict]:
        """As other tasks'; of mixed images that of both labels, by their shares.

        With 'label_emphasis' [2B] in the batch it is what the labels' losses are multiplied by; the metrics then have
        the 'loss' that is not.
        """
        if "share" not in batch:
            return super().head_loss(params, features, batch, context)
        loss, values, statistics = super().head_loss(params, *mixed.with_both_labels(features, batch, context))
        if "label_emphasis" in batch:
            loss, values = loss * batch["label_emphasis"], {**values, "loss": loss}
        loss, values = mixed.by_share((loss, values), batch["share"])
        return loss, values, statistics

    def head_blocks(self, params: Any, features: jax.Array, batch: dict, context: Context) -> dict[str, jax.Array]:
        if "share" in batch:
            features, batch, context = mixed.with_both_labels(features, batch, context)
        return super().head_blocks(params, features, batch, context)

    def train_features(
        self, params: Any, batch_stats: Any, images: jax.Array, key: jax.Array, train
    ) -> tuple[jax.Array, Any]:
        """Features [B, D] of the backbone, and its updated statistics. These backbones have no dropout to switch."""
        variables = {"params": params, "batch_stats": batch_stats}
        rngs = {"dropout": key}
        features, updated = self.backbone.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)
        return features, updated.get("batch_stats", {})

    def frozen_features(self, params: Any, batch_stats: Any, images: jax.Array) -> Any:
        """Features [B, D] of the backbone as evaluation has them, of augmented and normalised images."""
        return self.backbone.apply({"params": params, "batch_stats": batch_stats}, images, train=False)

    def predict(self, weights: dict, images: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
        """Log-probabilities and ids of the k best classes of uint8 images, each [B, k]."""
        return self._head(weights, "topk", self._features(weights, images), k)

    def embed(self, weights: dict, images: jax.Array) -> jax.Array:
        """Features of uint8 images as the head sees them, float32 [B, D]."""
        return self._features(weights, images).astype(jnp.float32)

    def _features(self, weights: dict, images: jax.Array) -> Any:
        params, batch_stats = weights["params"]["backbone"], weights["batch_stats"]
        return self.frozen_features(params, batch_stats, self.data.normalize(images))


@dataclasses.dataclass(frozen=True)
class Classification(OneClass, Pictures):
    """Pictures, or features, with one class each."""
