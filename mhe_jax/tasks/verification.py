"""Verification: trained to tell identities apart, used to say whether two pictures show the same one."""

import dataclasses

import jax
import jax.numpy as jnp

from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.tasks.classification import Classification


@dataclasses.dataclass(frozen=True)
class Verification(Classification):
    """A backbone whose features are embeddings, and a head on cosines that exists to train it.

    Batches are those of `Classification`. What counts afterwards is `embed`; `train.pairs_evaluator` evaluates it on
    pairs.
    """

    data: FaceData

    def embed(self, weights: dict, images: jax.Array) -> jax.Array:
        """Embeddings of uint8 images, float32 [B, D], not normalised; the mirrored image's is added where data has it.

        Adding the two is the published protocol. A mirrored letter is another letter: `data.flip_embeddings` says.
        """
        embeddings = self.embed_once(weights, images)
        return embeddings + self.embed_once(weights, images[:, :, ::-1]) if self.data.flip_embeddings else embeddings

    def embed_once(self, weights: dict, images: jax.Array) -> jax.Array:
        """Embeddings of the uint8 images as they are, float32 [B, D], not normalised."""
        return self._features(weights, images).astype(jnp.float32)

    @staticmethod
    def is_better(new: dict, old: dict | None) -> bool:
        """Whether an evaluation beats the best so far: by mean accuracy over the sets, then by mean AUC.

        The first of equals stays, also where only one of them has an AUC, as evaluations of older runs have none.
        """
        if old is None or new["accuracy"] != old["accuracy"]:
            return old is None or new["accuracy"] > old["accuracy"]
        return "auc" in new and "auc" in old and new["auc"] > old["auc"]
