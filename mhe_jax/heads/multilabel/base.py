"""What the heads for many labels share: the contract of a document that has any number of labels."""

import jax

from mhe_jax.heads.base import Head


class MultiLabelHead(Head):
    """A ranking of labels from features [B, D], trained on documents with none, one or several of them.

    `topk` and `scores` are as in `Head`: logarithms of scores in 0 .. 1, though over independent labels they need not
    add up to 1. A sparse table may be given as some of its blocks only, those that `blocks` names.
    """

    def loss(
        self,
        features: jax.Array,
        labels: jax.Array,
        key: jax.Array | None = None,
        want_value: jax.Array | None = None,
        blocks: dict[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Loss of each document and further per-document metrics, float32 [B] each.

        Args:
          features: float [B, D].
          labels: int [B, W], distinct in a row, -1 where there is none. A row without labels is a document that has
            none, not one that is unknown.
          key: for heads that sample.
          want_value: bool []; where False a head with `lazy_value` may leave out the value, though not the gradient.
          blocks: what the method `blocks` returned for the same arguments, if the sparse tables hold these blocks
            only, [U, n, d] in that order on every device. Loss and gradients are those of the whole tables.
        """
        raise NotImplementedError

    def blocks(self, features: jax.Array, labels: jax.Array, key: jax.Array | None = None) -> dict[str, jax.Array]:
        """The blocks of each sparse table that `loss` uses: {name: int32 [U], ascending, filled up with their number}.

        How many is decided by the shapes alone.
        """
        return {}


def refuse_smoothing(head: Head) -> None:
    """Raises ValueError if label smoothing is asked of a head of independent labels."""
    if head.label_smoothing:
        raise ValueError(
            f"config.head.label_smoothing is {head.label_smoothing}, but the labels of this head are independent and "
            "share no probability: set it to 0"
        )


def check_prior(prior: float) -> None:
    """Raises ValueError unless `prior` is a share of the labels."""
    if not 0 <= prior < 1:
        raise ValueError(f"config.head.prior is {prior}; it must be in [0, 1)")


def check_reduction(reduction: str) -> None:
    """Raises ValueError unless `reduction` is one of those of the sigmoid losses."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"config.head.reduction is {reduction!r}; it must be mean or sum")
