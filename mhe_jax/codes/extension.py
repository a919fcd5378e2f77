"""Codes of classes that a trained run is extended by: no code of the others changes."""

import numpy as np
from jaxtyping import Bool, Float

from mhe_jax.codes.assignment import assigned
from mhe_jax.codes.clustering import balanced_groups
from mhe_jax.labels import LabelCodes, LabelSpace


def extended(
    space: LabelSpace,
    codes: LabelCodes,
    vectors: Float[np.ndarray, "classes d"],
    present: Bool[np.ndarray, "classes"],
    seed: int = 0,
    alone: bool = False,
) -> tuple[LabelCodes, tuple[int, ...]]:
    """Codes for new classes in the groups that they resemble, and where these are full, in new groups behind them.

    A group's vector is the mean of its classes'; no more enter than it has free codes. New groups hold classes that
    resemble each other. One digit has no groups: free codes are filled in their order, and the table grows.

    Args:
      space: of the run, with the codes that are free.
      codes: of its classes, whose ids come first.
      vectors: of all classes, by id; of classes without examples anything.
      present: which classes have examples.
      seed: of the clustering of new classes.
      alone: whether each new class gets a new group of its own, for heads with no other row of a class.

    Returns:
      the codes of all classes, and the digits, of which the first may have become larger.
    """
    first, number, stride = codes.num_classes, len(vectors), space.strides[0]
    if space.num_heads == 1:
        stride = space.head_sizes[0]
    ids = codes.classes_by_code
    live = np.flatnonzero(space.is_valid(np.arange(len(ids))) & (ids >= 0))
    new = np.arange(first, number)
    if space.num_heads == 1:
        free = np.setdiff1d(np.arange(len(ids)), live)[: len(new)]
        places = np.concatenate([free, len(ids) + np.arange(len(new) - len(free))])
        return _placed(ids, live, new, places, number), (max(len(ids), int(places.max()) + 1),)
    groups = space.head_sizes[0]
    room = stride - np.bincount(live // stride, minlength=groups)
    begun = room < stride
    entered = begun & (room > 0) & (not alone)
    fresh = len(new) if alone else -(-max(len(new) - int(room[entered].sum()), 0) // stride)
    # Of the groups without classes, those that there are come first.
    empty = np.concatenate([np.flatnonzero(~begun), groups + np.arange(fresh)])[:fresh]
    if alone:
        group = empty
    else:
        chosen = np.concatenate([np.flatnonzero(entered), empty])
        old = _centres(vectors, ids, live, live // stride, np.flatnonzero(entered), present)
        centres = np.concatenate([old, _clusters(vectors[new], fresh, seed)])
        spaces = np.concatenate([room[entered], np.full(fresh, stride)])
        group = chosen[assigned(vectors[new], centres, np.zeros(len(chosen), np.float32), spaces)]
    taken, places = set(live.tolist()), np.empty(len(new), np.int64)
    for at in np.unique(group):
        members = np.flatnonzero(group == at)
        open_codes = [code for code in range(at * stride, (at + 1) * stride) if code not in taken]
        places[members] = open_codes[: len(members)]
    sizes = (max(groups, int(group.max()) + 1), *space.head_sizes[1:])
    return _placed(ids, live, new, places, number), sizes


def _centres(
    vectors: np.ndarray, ids: np.ndarray, live: np.ndarray, group: np.ndarray, chosen: np.ndarray, present: np.ndarray
) -> np.ndarray:
    """The mean vector of the classes with examples of each group; 0 where there are none."""
    centres = np.zeros((len(chosen), vectors.shape[1]), np.float32)
    counted = present[ids[live]]
    for place, at in enumerate(chosen):
        if (members := ids[live[(group == at) & counted]]).size:
            centres[place] = vectors[members].mean(axis=0)
    return centres


def _clusters(vectors: np.ndarray, number: int, seed: int) -> np.ndarray:
    """The centres of `number` clusters, of sizes that differ by 1 at most."""
    if not number:
        return np.zeros((0, vectors.shape[1]), np.float32)
    number = min(number, len(vectors))
    sizes = np.full(number, len(vectors) // number)
    sizes[: len(vectors) % number] += 1
    groups = balanced_groups(vectors, sizes, np.random.default_rng(seed))
    return np.stack([vectors[groups == at].mean(axis=0) for at in range(number)]).astype(np.float32)


def _placed(ids: np.ndarray, live: np.ndarray, new: np.ndarray, places: np.ndarray, number: int) -> LabelCodes:
    """The codes of the live classes, and of the new ones at `places`."""
    found = np.full(max(len(ids), int(places.max()) + 1), -1, np.int32)
    found[live], found[places] = ids[live], new
    return LabelCodes.placed(found, number)
