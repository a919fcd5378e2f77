"""ProductHead (`mhp`): H short classifiers whose Kronecker sum scores every class (Multi-Head Product)."""

import jax
import jax.numpy as jnp

from mhe_jax.heads.base import NOTHING, Head, check_smoothing, torch_linear
from mhe_jax.labels import LabelSpace
from mhe_jax.ops import kronecker, losses

OBJECTIVES = ("ce_per_head", "softmax_concat", "bce_concat")


class ProductHead(Head):
    """One linear layer to the digits' logits; a class scores the sum of its digits' logits.

    Parameters: kernel [D, R * S], bias [R * S] with S = sum(head_sizes), group by group; replicated, being small.

    Objectives: `ce_per_head` is the cross-entropy of the Kronecker-sum logits, which without padding is the sum of one
    cross-entropy per head (the paper). `softmax_concat` and `bce_concat` are what the reference optimises on ImageNet
    and CIFAR; their scores are sums of the digits' log-softmax over all S logits and of their log-sigmoid, which order
    the classes but are not normalised over them.

    Attributes:
      use_bias: whether logits have a bias.
      objective: one of `OBJECTIVES`.
      rank: how many products R are added up (eq. 16); 1 is the plain head.
      num_candidates: for rank > 1, how many rows of codes a top-k searches at a time; it changes time and memory. The
        result is exact in any case: see `ops.kronecker.mixture_top_codes`, and docs/results.md for what it costs.
      mask_padding: whether codes that are no class stay out of the loss's softmax; the reference lets them in.
      label_smoothing: probability spread evenly over all classes, in [0, 1).
    """

    use_bias: bool = True
    objective: str = "ce_per_head"
    rank: int = 1
    num_candidates: int = 64
    mask_padding: bool = True
    label_smoothing: float = 0.0

    def setup(self):
        check_smoothing(self.label_smoothing)
        if self.objective not in OBJECTIVES:
            raise ValueError(f"config.head.objective is {self.objective!r}; it must be one of {', '.join(OBJECTIVES)}")
        if self.rank < 1:
            raise ValueError(f"config.head.rank is {self.rank}; it must be at least 1")
        if self.objective != "ce_per_head" and (self.rank > 1 or self.label_smoothing):
            raise ValueError(
                f"config.head.objective {self.objective!r} has neither rank ({self.rank}) nor label_smoothing "
                f"({self.label_smoothing}): use 'ce_per_head', or rank=1 and label_smoothing=0"
            )
        if self.rank > 1 and self.label_smoothing:
            raise ValueError(
                f"config.head.label_smoothing ({self.label_smoothing}) has no closed form with rank {self.rank} > 1: "
                "set one of them back (rank=1 or label_smoothing=0)"
            )
        init, outputs = torch_linear(self.features_dim), self.rank * sum(self.label_space.head_sizes)
        self.kernel = self.param("kernel", init, (self.features_dim, outputs), jnp.float32)
        self.bias = self.param("bias", init, (outputs,), jnp.float32) if self.use_bias else None

    def loss(self, features, labels, context=NOTHING):
        digits = jnp.maximum(self.label_space.encode(labels), 0)
        flat = self._flat_logits(features)
        if self.objective == "ce_per_head":
            logits = self._split(flat)
            per_example = self._cross_entropy(logits, digits)
        else:
            slots = kronecker.slots(digits, self.label_space.head_sizes)
            concat_loss = losses.softmax_concat if self.objective == "softmax_concat" else losses.bce_concat
            logits, per_example = self._split(flat), concat_loss(flat[:, 0], slots)
        if self.rank > 1:
            return per_example, {}
        guesses = jnp.stack([logit[:, 0].argmax(axis=-1) for logit in logits], axis=-1)
        return per_example, {"accuracy": (guesses == digits).all(axis=-1).astype(jnp.float32)}

    def topk(self, features, k):
        self.check_k(k)
        logits, log_z = self._log_scores(features)
        scores, ids = kronecker.mixture_top_codes(logits, self.label_space, k, self.num_candidates)
        return scores - log_z[:, None], ids

    def scores(self, features, ids):
        logits, log_z = self._log_scores(features)
        digits = jnp.maximum(self.label_space.encode(ids), 0)
        return kronecker.mixture_code_scores(logits, digits) - log_z[:, None]

    def _flat_logits(self, features) -> jax.Array:
        """float32 [B, R, S]."""
        features = features.astype(self.dtype)
        flat = jnp.dot(features, self.kernel.astype(self.dtype), preferred_element_type=jnp.float32)
        if self.bias is not None:
            flat += self.bias[None, :]
        return flat.reshape(features.shape[0], self.rank, -1)

    def _split(self, flat):
        return kronecker.split_heads(flat, self.label_space.head_sizes)

    def _cross_entropy(self, logits, digits):
        space = self.label_space
        if not self.mask_padding:
            space = LabelSpace(space.num_codes, space.head_sizes)  # every code counts as a class
        log_z = jax.nn.logsumexp(kronecker.log_partition(logits, space), axis=1)
        target = kronecker.mixture_code_scores(logits, digits[:, None])[:, 0]
        # Only a single product reaches here with smoothing; its mean score is that of group 0.
        total = kronecker.mean_score(logits, space)[:, 0] * space.num_classes if self.label_smoothing else 0.0
        return losses.smoothed_cross_entropy(log_z, target, total, space.num_classes, self.label_smoothing)

    def _log_scores(self, features):
        """Per-head scores, H x [B, R, n_h], and what to subtract from a code's sum, [B]."""
        flat = self._flat_logits(features)
        if self.objective == "ce_per_head":
            logits = self._split(flat)
            return logits, jax.nn.logsumexp(kronecker.log_partition(logits, self.label_space), axis=1)
        normalise = jax.nn.log_softmax if self.objective == "softmax_concat" else jax.nn.log_sigmoid
        return self._split(normalise(flat)), jnp.zeros(flat.shape[0])
