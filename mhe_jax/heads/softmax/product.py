"""ProductHead (`mhp`): H short classifiers whose Kronecker sum scores every class (Multi-Head Product)."""

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.heads.base import NOTHING, Context, Features, Labels, Losses
from mhe_jax.heads.digit_table import DigitTable
from mhe_jax.ops import kronecker, losses

OBJECTIVES = ("ce_per_head", "softmax_concat", "bce_concat")


class ProductHead(DigitTable):
    """A softmax over classes that score the sum of their digits' logits.

    Objectives: `ce_per_head` is the cross-entropy of the Kronecker-sum logits, which without padding is the sum of one
    cross-entropy per head (the paper). `softmax_concat` and `bce_concat` are what the reference optimises on ImageNet
    and CIFAR; their scores are sums of the digits' log-softmax over all S logits and of their log-sigmoid, which order
    the classes but are not normalised over them.

    Parameters and further fields are those of `DigitTable`.

    Attributes:
      objective: one of `OBJECTIVES`.
    """

    objective: str = "ce_per_head"

    def setup(self):
        if self.objective not in OBJECTIVES:
            raise ValueError(f"config.head.objective is {self.objective!r}; it must be one of {', '.join(OBJECTIVES)}")
        if self.objective != "ce_per_head" and (self.rank > 1 or self.label_smoothing):
            raise ValueError(
                f"config.head.objective {self.objective!r} has neither rank ({self.rank}) nor label_smoothing "
                f"({self.label_smoothing}): use 'ce_per_head', or rank=1 and label_smoothing=0"
            )
        super().setup()

    def loss(self, features: Features, labels: Labels, context: Context = NOTHING) -> Losses:
        digits = jnp.maximum(self.label_space.encode(labels), 0)
        flat = context.cooled(self.flat_logits(features, context.adjustment))
        logits = self.split(flat)
        if self.objective == "ce_per_head":
            of_labels = digits if labels.ndim == 2 else digits[:, None]
            log_z, target, total, num_competing = self.softmax_parts(logits, of_labels)
            target = target[:, 0] if context.targets is None else (context.targets * target).sum(axis=1)
            per_example = losses.smoothed_cross_entropy(log_z, target, total, num_competing, self.label_smoothing)
        else:
            context.require_hard_labels(f"config.head.objective {self.objective!r}", "use 'ce_per_head'")
            slots = kronecker.slots(digits, self.label_space.head_sizes)
            concat_loss = losses.softmax_concat if self.objective == "softmax_concat" else losses.bce_concat
            per_example = concat_loss(flat[:, 0], slots)
        if self.rank > 1 or labels.ndim == 2:
            return per_example, {}
        guesses = jnp.stack([logit[:, 0].argmax(axis=-1) for logit in logits], axis=-1)
        return per_example, {"accuracy": (guesses == digits).all(axis=-1).astype(jnp.float32)}

    def adjustment(self, log_prior: np.ndarray) -> np.ndarray:
        if self.objective == "bce_concat":
            raise ValueError(
                "config.logit_adjustment is set, but config.head.objective 'bce_concat' has no softmax to adjust: set "
                "it to 0"
            )
        return super().adjustment(log_prior)

    def log_scores(self, features):
        if self.objective == "ce_per_head":
            return super().log_scores(features)
        normalise = jax.nn.log_softmax if self.objective == "softmax_concat" else jax.nn.log_sigmoid
        return self.split(normalise(self.flat_logits(features))), jnp.zeros(features.shape[0])
