"""ProductMarginHead: margins on short heads, one for each digit of a class (ArcFaceV3 of the published system)."""

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Best, Context, Features, Ids, Labels, Losses, Scores
from mhe_jax.heads.growth import Growing
from mhe_jax.heads.margin.base import ROW_INIT, MarginHead
from mhe_jax.ops import kronecker
from mhe_jax.ops.lengths import safe_normalize
from mhe_jax.ops.products import product

OBJECTIVES = ("ce_per_head", "bce_per_head")


class ProductMarginHead(MarginHead):
    """H short tables of cosines; a class scores the sum of its digits' scaled cosines, and each digit has the margin.

    `ce_per_head` is a margin softmax for each digit, summed. `bce_per_head`, the published face head, is the sigmoid
    cross-entropy of each digit's scaled cosines against its own, averaged over the digit's values, summed over digits.

    Parameters: kernel [sum(head_sizes), D], the rows of one digit after the other; replicated, being small.

    Attributes:
      objective: one of `OBJECTIVES`.
    """

    objective: str = "ce_per_head"

    def setup(self):
        if self.objective not in OBJECTIVES:
            raise ValueError(f"config.head.objective is {self.objective!r}; it must be one of {', '.join(OBJECTIVES)}")
        if self.objective == "bce_per_head" and self.margin.hard_boost(self.margin.statistics()) is not None:
            raise ValueError(
                "config.head.objective 'bce_per_head' has no softmax in which hard negatives could weigh more: use "
                "'ce_per_head', or another config.head.margin"
            )
        shape = (sum(self.label_space.head_sizes), self.features_dim)
        self.kernel = self.param("kernel", ROW_INIT, shape, jnp.float32)

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        """As `MarginHead.loss`; `cosine` is the mean over the digits."""
        digits = self.label_space.encode(jnp.maximum(labels, 0))
        queries, norms = self._normalized(features)
        cosines = self._cosines(queries)
        owns, others = [], []
        for head, head_cosines in enumerate(cosines):
            digit = digits[:, head, None]
            owns.append(jnp.take_along_axis(head_cosines, digit, axis=1)[:, 0])
            others.append(jnp.arange(head_cosines.shape[1])[None, :] != digit)
        parts = list(zip(cosines, owns, others, strict=True))
        if self.objective == "ce_per_head":
            loss, cosine = self._margin_loss([self._among(*part) for part in parts], norms, context)
        else:
            cosine = sum(owns[1:], start=owns[0]) / len(owns)
            statistics = self._batch_statistics(cosine, norms, context)
            loss = self._penalty(norms)
            for head_cosines, own, is_other in parts:
                softplus = jnp.where(is_other, jax.nn.softplus(self.margin.scale * head_cosines), 0.0).sum(axis=1)
                positive = jax.nn.softplus(-self._target(own, norms, statistics))
                loss += (softplus + positive) / head_cosines.shape[1]
        return loss, {"cosine": cosine, "norm": norms}

    def growing(self):
        return {("kernel",): Growing(0, self.label_space.head_sizes[0], keeps_rest=True)}

    def row_strides(self):
        return {"kernel": self.label_space.strides[0]}

    def topk(self, features: Features, k: int) -> Best:
        self.check_k(k)
        logits = self._logits(self._normalized(features)[0])
        scores, ids = kronecker.mixture_top_codes([x[:, None] for x in logits], self.label_space, k)
        return scores - kronecker.log_partition(logits, self.label_space)[:, None], ids

    def linear_scores(self, features: Features, ids: Ids) -> Scores:
        logits, digits = self._logits(features.astype(self.dtype)), jnp.maximum(self.label_space.encode(ids), 0)
        return kronecker.code_scores(logits, digits) - kronecker.log_partition(logits, self.label_space)[:, None]

    def _cosines(self, queries):
        """Cosines of unit vectors with the rows of each digit, H x float32 [B, n_h]."""
        cosines = product("bd,sd->bs", queries, safe_normalize(self.kernel)[0])
        return kronecker.split_heads(cosines, self.label_space.head_sizes)

    def _logits(self, queries):
        """Scaled cosines of each digit, H x [B, n_h]."""
        return [self.margin.scale * cosines for cosines in self._cosines(queries)]
