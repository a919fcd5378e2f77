"""DigitTable: short linear layers to the logits of each digit, what product heads have in common."""

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.heads import beginning
from mhe_jax.heads.base import Best, Features, Head, Ids, Scores, check_smoothing, log_mean_exp, torch_linear
from mhe_jax.heads.growth import Growing
from mhe_jax.labels import LabelSpace
from mhe_jax.ops import kronecker
from mhe_jax.ops.products import product
from mhe_jax.settings import option


class DigitTable(Head):
    """A linear layer to the digits' logits; a class scores the sum of its digits' logits, normalised over all classes.

    Parameters: kernel [D, R * S], bias [R * S] with S = sum(head_sizes), group by group; replicated, being small.

    Attributes:
      use_bias: whether logits have a bias.
      rank: how many products R are added up (eq. 16); 1 is the plain head.
      num_candidates: for rank > 1, how many rows of codes a top-k searches at a time; it changes time and memory. The
        result is exact in any case: see `ops.kronecker.mixture_top_codes`, and docs/results.md for what it costs.
      mask_padding: whether codes that are no class stay out of the loss's softmax; the reference lets them in.
      label_smoothing: probability spread evenly over all classes, in [0, 1).
    """

    use_bias: bool = True
    rank: int = 1
    num_candidates: int = option(64, free=True)
    mask_padding: bool = True
    label_smoothing: float = 0.0

    def setup(self):
        check_smoothing(self.label_smoothing)
        if self.rank < 1:
            raise ValueError(f"config.head.rank is {self.rank}; it must be at least 1")
        if self.rank > 1 and self.label_smoothing:
            raise ValueError(
                f"config.head.label_smoothing ({self.label_smoothing}) has no closed form with rank {self.rank} > 1: "
                "set one of them back (rank=1 or label_smoothing=0)"
            )
        init, outputs = torch_linear(self.features_dim), self.rank * sum(self.label_space.head_sizes)
        self.kernel = self.param("kernel", init, (self.features_dim, outputs), jnp.float32)
        self.bias = self.param("bias", init, (outputs,), jnp.float32) if self.use_bias else None

    def growing(self):
        sizes = {"length": self.label_space.head_sizes[0], "copies": self.rank}
        return {(name,): Growing(axis, **sizes, keeps_rest=True) for name, axis in (("kernel", 1), ("bias", 0))}

    def begin(self, params, trained, new):
        return beginning.of_digits(params, self, trained, new)

    def topk(self, features: Features, k: int) -> Best:
        self.check_k(k)
        logits, log_z = self.log_scores(features)
        scores, ids = kronecker.mixture_top_codes(logits, self.label_space, k, self.num_candidates)
        return scores - log_z[:, None], ids

    def scores(self, features: Features, ids: Ids) -> Scores:
        logits, log_z = self.log_scores(features)
        digits = jnp.maximum(self.label_space.encode(ids), 0)
        return kronecker.mixture_code_scores(logits, digits) - log_z[:, None]

    def log_scores(self, features: jax.Array) -> tuple[kronecker.Logits, jax.Array]:
        """Scores of each digit, H arrays [B, R, n_h], and what to subtract from a code's sum, [B]."""
        logits = self.split(self.flat_logits(features))
        return logits, jax.nn.logsumexp(kronecker.log_partition(logits, self.label_space), axis=1)

    def softmax_parts(
        self, logits: kronecker.Logits, digits: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array | float, int]:
        """What a softmax's loss is made of.

        Args:
          logits: H arrays [B, R, n_h].
          digits: int [B, M, H], of the classes whose logits are asked for.

        Returns:
          log-sum-exp over the competing codes [B], logits of `digits` [B, M], the sum of all competing logits [B] (or
          0.0 without smoothing), and how many codes compete.
        """
        space = self.label_space
        if not self.mask_padding:
            space = LabelSpace(space.num_codes, space.head_sizes)  # every code counts as a class
        log_z = jax.nn.logsumexp(kronecker.log_partition(logits, space), axis=1)
        # Only a single product has smoothing; its mean score is that of group 0.
        total = kronecker.mean_score(logits, space)[:, 0] * space.num_live if self.label_smoothing else 0.0
        return log_z, kronecker.mixture_code_scores(logits, digits), total, space.num_live

    def adjustment(self, log_prior: np.ndarray) -> np.ndarray:
        """For each digit, float32 [S], the logarithm of the mean prior of the classes that have it, without free codes.

        The sum over a class's digits is its own where priors are products of those of digits, but for a constant; a sum
        of digits' logits cannot be raised by anything else.
        """
        ids = self.label_space.live_codes
        of_heads = zip(np.asarray(self.label_space.encode(ids)).T, self.label_space.head_sizes, strict=True)
        return np.concatenate([log_mean_exp(log_prior[ids], digit, size) for digit, size in of_heads])

    def flat_logits(self, features: jax.Array, raised: jax.Array | None = None) -> jax.Array:
        """The logits of all digits, float32 [B, R, S], plus what they are `raised` by, [S]."""
        flat = product("bd,ds->bs", features.astype(self.dtype), self.kernel)
        if self.bias is not None:
            flat += self.bias[None, :]
        flat = flat.reshape(features.shape[0], self.rank, -1)
        return flat if raised is None else flat + raised[None, None, :]

    def split(self, flat: jax.Array) -> kronecker.Logits:
        """[B, R, S] -> H arrays [B, R, n_h]."""
        return kronecker.split_heads(flat, self.label_space.head_sizes)
