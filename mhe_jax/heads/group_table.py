"""GroupTable: rows of weights by groups of classes, what softmax heads that train sampled groups have in common."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.heads import beginning
from mhe_jax.heads.base import Best, Features, Head, Ids, Ranked, Scores, check_smoothing
from mhe_jax.heads.growth import Growing
from mhe_jax.ops import sharded
from mhe_jax.ops.sampling import BatchUnion, Sampler
from mhe_jax.settings import option


class GroupTable(Head):
    """A softmax classifier without bias whose classes lie in groups: those that share digit 0.

    Heads 1 .. H-1 only number the members of a group, so any H works. Inference scores all classes. The metric
    `coverage` of `loss` is the share of the groups that a step trains, where they are one set for the whole batch.

    Parameters: weight [n_0, n_1 * .. * n_{H-1}, D], split over 'class'.

    Attributes:
      sampler: which groups a step trains, see `ops.sampling`; `config.head.sampler`.
      block_size: classes per block; 0 chooses one that keeps a block of logits within 64 MiB.
      mask_padding: whether members that are no class stay out of the loss's softmax; the reference lets them in.
      label_smoothing: probability spread evenly over the classes that compete in the loss, in [0, 1).
    """

    sampler: Sampler = BatchUnion()
    block_size: int = option(0, free=True)
    mask_padding: bool = True
    label_smoothing: float = 0.0

    def setup(self):
        check_smoothing(self.label_smoothing)
        shape = (self.label_space.head_sizes[0], self.label_space.strides[0], self.features_dim)
        self.weight = self.class_table("weight", nn.initializers.normal(0.01), *shape)

    def owned_tables(self):
        return ("weight",) if self.sampler.one_set else ()

    def growing(self):
        return {("weight",): Growing(0, self.label_space.head_sizes[0])}

    def begin(self, params, trained, new):
        rows = params["weight"].reshape(-1, self.features_dim)
        places = trained.codes, new.codes
        (found,) = beginning.of_tables([rows], (trained.means, new.means), places)
        return {**params, "weight": found.reshape(params["weight"].shape)}

    def stages(self):
        return tuple(self.clone(sampler=sampler) for sampler in self.sampler.stages)

    def sample_groups(self, labels: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The groups that a step trains: of each example, int [B, K], or a set for the batch, [parts, U]."""
        return self.sampler.draw(self._true_groups(labels), self.label_space.head_sizes[0], key)

    def minus_log_q(self, labels: jax.Array, groups: jax.Array) -> jax.Array | None:
        """What the sampler adds to the logits of each drawn group, of the shape of `groups`; None: nothing."""
        return self.sampler.minus_log_q(self._true_groups(labels), self.label_space.head_sizes[0], groups)

    def adjustment(self, log_prior: np.ndarray) -> np.ndarray:
        """Of each member of each group, float32 [P, n]; exact among those that a step trains.

        A member that is no class has the lowest prior of a class.
        """
        shape, lowest = (self.label_space.head_sizes[0], self.label_space.strides[0]), log_prior.min()
        return np.pad(log_prior, (0, math.prod(shape) - len(log_prior)), constant_values=lowest).reshape(shape)

    @staticmethod
    def raised(offsets: jax.Array | None, adjustment: jax.Array | None, groups: jax.Array) -> jax.Array | None:
        """What is added to the logits of the members of groups, [..., n], or of all of a group, [...]; or None."""
        if adjustment is None:
            return offsets
        of_members = jnp.take(adjustment, groups, axis=0, mode="clip")
        return of_members if offsets is None else of_members + offsets[..., None]

    def coverage(self, groups: jax.Array, batch: int) -> jax.Array:
        """The share of the groups that are among one set, int [U] with others outside; float32 [B], one number."""
        number = self.label_space.head_sizes[0]
        return jnp.broadcast_to(((groups >= 0) & (groups < number)).mean() * (groups.shape[0] / number), (batch,))

    def _true_groups(self, labels):
        return jnp.where(labels < 0, -1, labels // self.label_space.strides[0])

    def topk(self, features: Features, k: int) -> Best:
        logits, ids, lse = self._best_logits(features, k)
        return logits - lse[:, None], ids

    def topk_and_scores(self, features: Features, k: int, ids: Ids) -> Ranked:
        logits, best, lse = self._best_logits(features, k)
        return logits - lse[:, None], best, self._logits_of(features, ids) - lse[:, None]

    def scores(self, features: Features, ids: Ids) -> Scores:
        rows, is_class = self._rows()
        nothing = jnp.full(ids.shape[0], -1)
        lse, _, _ = sharded.lse(features.astype(self.dtype), rows, None, nothing, is_class, self.block_size, False)
        return self._logits_of(features, ids) - lse[:, None]

    @property
    def num_competing(self) -> int:
        """Codes below this take part in the loss, free ones too, as classes without examples."""
        return self.label_space.num_classes if self.mask_padding else self.label_space.num_codes

    def _best_logits(self, features, k):
        """The k largest logits [B, k], their classes, and the log-sum-exp over all [B]."""
        self.check_k(k)
        rows, is_class = self._rows()
        return sharded.topk(features.astype(self.dtype), rows, None, is_class, k, self.block_size)

    def _logits_of(self, features, ids):
        rows = self.weight.reshape(-1, 1, self.features_dim)  # each class is a block of one
        return sharded.block_logits(rows, features.astype(self.dtype), ids)[:, :, 0]

    def _rows(self):
        """All classes as one table [n_0 * n_1, D], and which of its rows are classes."""
        rows = self.weight.reshape(-1, self.features_dim)
        return rows, self.live_rows(rows.shape[0])
