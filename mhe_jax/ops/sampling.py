"""Which groups of classes take part in a training step, as static-shape functions of an explicit key.

A sampler is a frozen dataclass whose fields are those of `config.head.sampler`. Some draw groups for each example,
[B, K] with the true group in slot 0, the others one set for the whole batch, cut into parts as the table may be:
[parts, U]. A negative group means "no label" and forces nothing.

Where negatives are drawn, each stands for those that were not. With `subtract_log_q` the logarithm of a drawn group's
probability is subtracted from its logits, so that the expected softmax over the drawn is that over all; true groups are
there with certainty, and stay as they are.

How many groups a step trains is a shape. Where it grows in the course of a run it does so in `stages`, each with a
sampler of its own.

Source: the samplers of the reference's MHS heads; `RandomGroups` is PartialFC's rule (arXiv 2203.15565) on groups.
The correction is that of sampled softmax (Bengio and Senecal 2008; `subtract_log_q` of TensorFlow), which the published
system does not have.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int, UInt

from mhe_jax.ops import per_row

Drawn = Float32[Array, "..."] | None  # a number for each drawn group
# A random number of 24 bits, and one bit above for what is drawn in any case.
_PRIORITY_BITS = 25


class _Steady:
    """A sampler that is the same from a run's first step to its last."""

    @property
    def stages(self):
        """The samplers of equal parts of a run, one after the other."""
        return (self,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositiveOnly(_Steady):
    """Of each example its own group alone (ArcFaceMHS of the published system)."""

    one_set: ClassVar[bool] = False

    def draw(self, groups: Int[Array, "batch"], num_groups: int, key: jax.Array | None = None) -> Int[Array, "batch 1"]:
        """int [B] -> [B, 1]."""
        return groups[:, None]

    def minus_log_q(self, groups: Int[Array, "batch"], num_groups: int, drawn: Int[Array, "batch 1"]) -> None:
        """Nothing is left to chance."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerExample(_Steady):
    """Of each example its own group and some random others (the published image heads).

    Attributes:
      num_groups: groups per example, the true one included.
      drop_one_group: whether at most all groups but one are used, as the published sampler loses one.
      subtract_log_q: whether the logits of the others are corrected for how seldom they are drawn.
    """

    num_groups: int = 4
    drop_one_group: bool = False
    subtract_log_q: bool = False
    one_set: ClassVar[bool] = False

    def __post_init__(self):
        if self.num_groups < 1:
            raise ValueError(f"config.head.sampler.num_groups is {self.num_groups}; it must be at least 1")

    def draw(
        self, groups: Int[Array, "batch"], num_groups: int, key: jax.Array | None = None
    ) -> Int[Array, "batch drawn"]:
        """int [B] -> [B, K], K at most `num_groups`; raises ValueError without a key."""
        most = max(num_groups - self.drop_one_group, 1)
        return per_example(_needed(key, "per_example"), groups, num_groups, min(self.num_groups, most))

    def minus_log_q(self, groups: Int[Array, "batch"], num_groups: int, drawn: Int[Array, "batch drawn"]) -> Drawn:
        """What to add to the logits of each drawn group: log((n - 1) / (K - 1)), and 0 for the true one in slot 0.

        None if nothing is.
        """
        if not self.subtract_log_q:
            return None
        others = drawn.shape[1] - 1
        of_others = math.log((num_groups - 1) / others) if others else 0.0
        return jnp.broadcast_to(of_others * (jnp.arange(others + 1)[None, :] > 0), drawn.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchUnion(_Steady):
    """The true groups of the whole batch (ArcFaceMHS_B1 of the published system).

    Attributes:
      parts: equal parts of the groups, each with a set of its own; 0: as many as devices along mesh axis 'class'.
    """

    parts: int = 0
    one_set: ClassVar[bool] = True

    def __post_init__(self):
        _check_parts(self.parts)

    def draw(
        self, groups: Int[Array, "..."], num_groups: int, key: jax.Array | None = None
    ) -> Int[Array, "parts drawn"]:
        """int [...] -> [parts, U], see `parted_groups`."""
        return parted_groups(None, groups, num_groups, self.parts or per_row.axis_size("class"), 0.0)

    def minus_log_q(self, groups: Int[Array, "..."], num_groups: int, drawn: Int[Array, "*shape"]) -> None:
        """Nothing is left to chance."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomGroups:
    """The true groups of the batch and random others, a share of all; with groups of one class this is PartialFC.

    Attributes:
      rate: share of the groups in a step; true groups beyond it are all kept.
      later_rates: shares that follow `rate`, each above the one before: the run is cut into as many equal parts as
        there are shares. With none it keeps `rate`.
      parts: equal parts of the groups that are sampled apart; 0: as many as devices along mesh axis 'class'. With the
        same number a run draws the same on every mesh.
      subtract_log_q: whether the logits of the random ones are corrected for how seldom they are drawn.
    """

    rate: float = 0.1
    later_rates: tuple[float, ...] = ()
    parts: int = 0
    subtract_log_q: bool = False
    one_set: ClassVar[bool] = True

    def __post_init__(self):
        _check_parts(self.parts)
        if not 0 <= self.rate <= 1:
            raise ValueError(f"config.head.sampler.rate is {self.rate}; it must be in [0, 1]")
        shares = (self.rate, *self.later_rates)
        if sorted(set(shares)) != list(shares) or shares[-1] > 1:
            raise ValueError(
                f"config.head.sampler.later_rates is {self.later_rates}; from `rate`, {self.rate}, on shares must "
                "rise, to 1 at most"
            )

    @property
    def stages(self) -> tuple["RandomGroups", ...]:
        """The samplers of equal parts of a run, one after the other: the last one draws most."""
        shares = (self.rate, *self.later_rates)
        return tuple(dataclasses.replace(self, rate=rate, later_rates=()) for rate in shares)

    def draw(
        self, groups: Int[Array, "..."], num_groups: int, key: jax.Array | None = None
    ) -> Int[Array, "parts drawn"]:
        """int [...] -> [parts, U], see `parted_groups`; raises ValueError without a key."""
        parts = self.parts or per_row.axis_size("class")
        return parted_groups(_needed(key, "random_groups"), groups, num_groups, parts, self.rate)

    def minus_log_q(self, groups: Int[Array, "..."], num_groups: int, drawn: Int[Array, "*shape"]) -> Drawn:
        """What to add to the logits of each drawn group, of which `groups` are the true ones: 0 for these; or None.

        Of the E groups of a part that exist, P are true, and U - P of the E - P others are drawn: log((E - P)/(U - P)).
        """
        if not self.subtract_log_q:
            return None
        parts = self.parts or per_row.axis_size("class")
        positive, exists = _by_part(groups, num_groups, parts)
        true, existing = positive.sum(axis=1), exists.sum(axis=1)
        random = jnp.minimum(int(self.rate * exists.shape[1]), existing) - true
        of_others = jnp.log((existing - true) / jnp.maximum(random, 1))[:, None]
        by_group = jnp.where(positive | ~exists | (random < 1)[:, None], 0.0, of_others)
        return jnp.take(by_group.reshape(-1), drawn, mode="fill", fill_value=0.0)


Sampler = PositiveOnly | PerExample | BatchUnion | RandomGroups

SAMPLERS: dict[str, type[Sampler]] = {
    "per_example": PerExample,
    "positive_only": PositiveOnly,
    "batch_union": BatchUnion,
    "random_groups": RandomGroups,
}


def per_example(
    key: jax.Array, groups: Int[Array, "batch"], num_groups: int, count: int
) -> Int[Array, "batch {count}"]:
    """The true group and `count - 1` others, distinct and uniform, for each example: int [B] -> [B, count].

    Floyd's algorithm draws the subset in O(count^2) per example; no array of B * num_groups random numbers is needed.

    Raises:
      ValueError: if `count` is not in 1 .. num_groups.
    """
    if not 1 <= count <= num_groups:
        raise ValueError(f"cannot draw {count} distinct groups out of {num_groups}")
    batch, others = groups.shape[0], num_groups - 1

    def draw(slot, chosen):
        # One more of the numbers 0 .. top: a repeated draw is replaced by `top`, which no earlier draw could give.
        top = others - count + slot
        number = jax.random.randint(jax.random.fold_in(key, slot), (batch,), 0, top + 1)
        repeated = (chosen == number[:, None]).any(axis=1)
        return chosen.at[:, slot].set(jnp.where(repeated, top, number))

    # Slot 0 is overwritten below; -1 equals no draw, and neither do the slots not yet drawn.
    chosen = jax.lax.fori_loop(1, count, draw, jnp.full((batch, count), -1, groups.dtype))
    true = groups[:, None]
    return jnp.where(jnp.arange(count)[None, :] == 0, true, chosen + (chosen >= true))


def parted_groups(
    key: jax.Array | None, groups: Int[Array, "..."], num_groups: int, parts: int, rate: float
) -> Int[Array, "{parts} drawn"]:
    """The distinct true groups, and random others up to a share of all, in each of `parts` equal parts of the groups.

    PartialFC samples so on each device. Part p holds the groups p * L .. (p + 1) * L - 1 with L = ceil(num_groups /
    parts). All true groups are kept; others fill a part up to int(rate * L), and where there are more true ones the set
    holds just these.

    Args:
      key: PRNG key; may be None for rate 0, the true groups alone.
      groups: int [...], of N entries.
      num_groups: number of groups.
      parts: number of parts.
      rate: fraction of each part to use, in 0 .. 1.

    Returns:
      int [parts, max(int(rate * L), min(N, L))]; a part is ascending and filled up with (p + 1) * L, which is no group
      of its own, so that all parts in a row are non-decreasing.
    """
    positive, exists = _by_part(groups, num_groups, parts)
    length = exists.shape[1]
    wanted = int(rate * length)
    size = max(wanted, min(groups.size, length))
    chosen = positive
    if wanted:
        if key is None:
            raise ValueError(f"rate {rate} draws groups at random and needs a key")
        priority = 1 + (jax.random.bits(key, exists.shape, jnp.uint32) >> (33 - _PRIORITY_BITS))
        priority = jnp.where(positive, jnp.uint32(2**_PRIORITY_BITS - 1), jnp.where(exists, priority, 0))
        count = jnp.minimum(jnp.maximum(wanted, positive.sum(axis=1)), exists.sum(axis=1))
        chosen = _largest(priority, count)

    def places(chosen):
        # The first place up to which 1, 2, ... are chosen; `length` behind the last.
        find = lambda row: jnp.searchsorted(jnp.cumsum(row), jnp.arange(1, size + 1), method="scan_unrolled")
        return jax.vmap(find)(chosen)

    # The parts are split as the table is.
    return per_row.on_own_rows(places, chosen, axes=("class",)) + (jnp.arange(parts) * length)[:, None]


def _largest(priority: UInt[Array, "parts length"], count: Int[Array, "parts"]) -> Bool[Array, "parts length"]:
    """Whether a number is among the `count` largest of its row; of equal ones the first are.

    Rows are not sorted: a bisection finds the smallest of the largest, one bit at a time.
    """

    def bit(step, least):
        trial = least | (jnp.uint32(1) << (_PRIORITY_BITS - 1 - step).astype(jnp.uint32))
        return jnp.where((priority >= trial[:, None]).sum(axis=1) >= count, trial, least)

    least = jax.lax.fori_loop(0, _PRIORITY_BITS, bit, jnp.zeros_like(count, jnp.uint32))[:, None]
    above, equal = priority > least, priority == least
    return above | (equal & (jnp.cumsum(equal, axis=1) <= count[:, None] - above.sum(axis=1, keepdims=True)))


def as_one_set(parted: Int[Array, "parts drawn"], num_groups: int) -> Int[Array, "parts*drawn"]:
    """The groups of all parts of `parted_groups`: int [parts, U] -> ascending [parts * U], filled with `num_groups`."""
    length = -(-num_groups // parted.shape[0])
    own = parted // length == jnp.arange(parted.shape[0])[:, None]
    groups = jnp.where(own & (parted < num_groups), parted, num_groups).reshape(-1)
    return groups if parted.shape[0] == 1 else jnp.sort(groups)


def _by_part(groups, num_groups, parts) -> tuple[jax.Array, jax.Array]:
    """Which groups of each part are among `groups`, and which exist: bool [parts, L] both."""
    length = -(-num_groups // parts)
    places = jnp.where(groups < 0, parts * length, groups).reshape(-1)
    positive = jnp.zeros(parts * length, bool).at[places].set(True, mode="drop").reshape(parts, length)
    return positive, (jnp.arange(parts * length) < num_groups).reshape(parts, length)


def _needed(key, name) -> jax.Array:
    if key is None:
        raise ValueError(
            f"config.head.sampler {name!r} draws at random and needs a key: loss(..., Context(key=key)), or in Linen "
            "apply(..., rngs={'sample': key})"
        )
    return key


def _check_parts(parts: int) -> None:
    if parts < 0:
        raise ValueError(f"config.head.sampler.parts is {parts}; it must be 0 or more")
