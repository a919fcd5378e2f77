"""Which groups of classes take part in a training step, as static-shape functions of an explicit key.

Per-example samplers return [B, K] with the true group in slot 0. Batch samplers return one ascending set [U], filled
up with `num_groups`, a group that does not exist. A negative group means "no label" and forces nothing.

Source: the samplers of the reference's MHS heads; `random_groups` is PartialFC's rule (arXiv 2203.15565) on groups.
"""

import jax
import jax.numpy as jnp

from mhe_jax.ops import per_row


def per_example(key: jax.Array, groups: jax.Array, num_groups: int, count: int) -> jax.Array:
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


def positive_only(groups: jax.Array) -> jax.Array:
    """The true group alone: int [B] -> [B, 1]."""
    return groups[:, None]


def batch_union(groups: jax.Array, num_groups: int) -> jax.Array:
    """The distinct true groups of the batch: int [B] -> ascending [min(B, num_groups)], filled with `num_groups`."""
    size = min(groups.shape[0], num_groups)
    return jnp.unique(jnp.where(groups < 0, num_groups, groups), size=size, fill_value=num_groups)


def random_groups(key: jax.Array, groups: jax.Array, num_groups: int, rate: float) -> jax.Array:
    """The distinct true groups, and random others up to int(rate * num_groups) groups in all.

    All true groups are kept, also where there are more: the set then holds just them, as in PartialFC.

    Args:
      key: PRNG key.
      groups: int [B].
      num_groups: number of groups.
      rate: fraction of the groups to use, in 0 .. 1.

    Returns:
      ascending int [max(int(rate * num_groups), min(B, num_groups))], filled with `num_groups`.
    """
    wanted = int(rate * num_groups)
    size = max(wanted, min(groups.shape[0], num_groups))
    positive = jnp.zeros(num_groups, bool).at[jnp.where(groups < 0, num_groups, groups)].set(True, mode="drop")
    priority = jax.random.uniform(key, (num_groups,)) + 2.0 * positive
    _, ids = jax.lax.top_k(priority, size)
    used = jnp.arange(size) < jnp.maximum(wanted, positive.sum())
    return jnp.sort(jnp.where(used, ids, num_groups))


def parted_groups(key: jax.Array | None, groups: jax.Array, num_groups: int, parts: int, rate: float) -> jax.Array:
    """`random_groups` in each of `parts` equal parts of the groups, as PartialFC samples on each device.

    Part p holds the groups p * L .. (p + 1) * L - 1 with L = ceil(num_groups / parts). All true groups are kept; others
    fill a part up to int(rate * L).

    Args:
      key: PRNG key; may be None for rate 0, the true groups alone.
      groups: int [B].
      num_groups: number of groups.
      parts: number of parts.
      rate: fraction of each part to use, in 0 .. 1.

    Returns:
      int [parts, max(int(rate * L), min(B, L))]; a part is ascending and filled up with (p + 1) * L, which is no group
      of its own, so that all parts in a row are non-decreasing.
    """
    length = -(-num_groups // parts)
    wanted = int(rate * length)
    size = max(wanted, min(groups.shape[0], length))
    places = jnp.where(groups < 0, parts * length, groups)
    positive = jnp.zeros(parts * length, bool).at[places].set(True, mode="drop").reshape(parts, length)
    exists = (jnp.arange(parts * length) < num_groups).reshape(parts, length)
    priority = 2.0 * positive - 1.0 * ~exists
    if wanted:
        if key is None:
            raise ValueError(f"rate {rate} draws groups at random and needs a key")
        priority += jax.random.uniform(key, (parts, length))
    # The parts are split as the table is.
    _, local = per_row.top_k(priority, size, ("class",))
    used = jnp.arange(size)[None, :] < jnp.maximum(wanted, positive.sum(axis=1))[:, None]
    used &= jnp.take_along_axis(exists, local, axis=1)
    return jnp.sort(jnp.where(used, local, length), axis=1) + (jnp.arange(parts) * length)[:, None]
