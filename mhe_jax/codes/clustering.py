"""Balanced hierarchical k-means: vectors of classes become codes, similar classes sharing their first digits.

The groups have exactly the sizes that a `LabelSpace` gives them. Balanced k-means with an exact assignment at each
step is Malinen & Fränti 2014; here the assignment is by prices and regret, see `mhe_jax.codes.assignment`, which takes
time in proportion to classes x groups.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import tqdm
from jaxtyping import Bool, Float, Int

from mhe_jax.codes.assignment import assigned, cheapest, distances, prices
from mhe_jax.labels import LabelCodes, LabelSpace

# Points that centres are found from, for each group.
_SAMPLE = 64
_ITERATIONS = 20
# A set of points that is small enough is clustered several times, and the best is kept.
_SMALL, _STARTS = 2**20, 6
# Distances of one split. Above it groups are found in two steps, bunches of groups first, as few as will do: the border
# between two bunches cuts through clusters.
_MOST = 2**32


def clustered(
    vectors: Float[np.ndarray, "classes d"],
    space: LabelSpace,
    seed: int = 0,
    present: Bool[np.ndarray, "classes"] | None = None,
) -> LabelCodes:
    """Codes under which classes with similar vectors share their first digits.

    Deterministic from the seed on one machine. A progress bar is shown on a terminal.

    Args:
      vectors: of the classes, by id; compared by squared distance. A memory map is read in blocks.
      space: the classes and their digits; the groups of each level get its sizes.
      seed: of all that is drawn.
      present: which classes have a vector; the others are put at random into what is left. None: all.

    Raises:
      ValueError: if there is not one vector for each class, or one is not finite.
    """
    present = np.ones(len(vectors), bool) if present is None else present
    if vectors.ndim != 2 or len(vectors) != space.num_classes or present.shape != (len(vectors),):
        raise ValueError(
            f"there are vectors {list(vectors.shape)} for {space.num_classes} classes: one for each is needed"
        )
    for start in range(0, len(vectors), 2**18):
        rows = slice(start, start + 2**18)
        bad = present[rows] & ~np.isfinite(vectors[rows]).all(axis=1)
        if bad.any():
            raise ValueError(f"the vector of class {start + int(np.argmax(bad))} is not finite")
    rng = np.random.default_rng(seed)
    with tqdm.tqdm(total=len(vectors), desc="clustering", unit="class", disable=None) as bar:
        everything = np.arange(len(vectors), dtype=np.int32)
        order = list(_ordered(vectors, present, everything, space, 0, rng, bar.update))
    return LabelCodes.of(np.concatenate(order))


def _ordered(
    vectors: np.ndarray,
    present: np.ndarray,
    members: np.ndarray,
    space: LabelSpace,
    level: int,
    rng: np.random.Generator,
    done: Callable[[int], object],
) -> Iterator[np.ndarray]:
    """The classes `members` of one node in the order of their codes, in parts."""
    stride = space.strides[level]
    if stride == 1 or len(members) <= 1:
        done(len(members))
        yield members
        return
    sizes = np.full(-(-len(members) // stride), stride)
    sizes[-1] = len(members) - stride * (len(sizes) - 1)
    for group in _split(vectors, present, members, sizes, rng):
        yield from _ordered(vectors, present, group, space, level + 1, rng, done)


def _split(
    vectors: np.ndarray, present: np.ndarray, members: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """`members` in groups of these sizes, by similarity; each ascending."""
    if len(sizes) == 1:
        yield members
    elif len(members) * len(sizes) > _MOST:
        bunch = -(-len(sizes) // max(2, math.ceil(len(members) * len(sizes) / _MOST)))
        starts = np.arange(0, len(sizes), bunch)
        bunches = _split(vectors, present, members, np.add.reduceat(sizes, starts), rng)
        for start, group in zip(starts, bunches, strict=True):
            yield from _split(vectors, present, group, sizes[start : start + bunch], rng)
    else:
        there = members[present[members]]
        # All of them: no copy.
        points = vectors if len(there) == len(vectors) else vectors[there]
        group_of = np.repeat(np.arange(len(sizes)), sizes)
        if len(there):
            groups = balanced_groups(points, sizes, rng)
            absent = members[~present[members]]
            rest = np.repeat(np.arange(len(sizes)), sizes - np.bincount(groups, minlength=len(sizes)))
            members = np.concatenate([there, rng.permutation(absent)])
            group_of = np.concatenate([groups, rest])
        else:
            members = rng.permutation(members)
        order = np.lexsort((members, group_of))
        yield from np.split(members[order], np.cumsum(sizes)[:-1])


def balanced_groups(
    points: Float[np.ndarray, "n d"], sizes: Int[np.ndarray, "k"], rng: np.random.Generator
) -> Int[np.ndarray, "n"]:
    """The group of each point, near to one another within, none with more points than its size.

    Args:
      points: N vectors.
      sizes: of the K groups, together at least N; where they are just N, groups have exactly their sizes.
      rng: draws samples and first centres.
    """
    number = min(len(sizes), len(points))
    if number == 1:
        return np.zeros(len(points), np.int32)
    sizes, points = sizes[:number], _squarable(points)
    if len(points) * number <= _SMALL:
        starts = (_settled(points.astype(np.float32), sizes, rng) for _ in range(_STARTS))
        return min(starts, key=lambda found: found[1])[0]
    sample = points
    if len(points) > _SAMPLE * number:
        sample = points[np.sort(rng.choice(len(points), _SAMPLE * number, replace=False))]
    sample = sample.astype(np.float32)
    room = sizes * (len(sample) / sizes.sum())
    centres, price = _first_centres(sample, number, rng), np.zeros(number, np.float32)
    for _ in range(_ITERATIONS):
        costs = distances(sample, centres)
        price = prices(costs, room, price, 3)
        centres = _means(sample, cheapest(costs, price), centres)
        del costs  # before the next ones are there
    price = prices(distances(sample, centres), room, price, 60)
    return assigned(points, centres, price, sizes)


def _squarable(points: np.ndarray) -> np.ndarray:
    """Points whose squared distances float32 holds: the same, or all divided by one power of two, as float32."""
    largest = max(float(points.max()), -float(points.min()))
    if not largest > 2.0**40:
        return points
    return np.ldexp(points, -math.frexp(largest)[1]).astype(np.float32)


def _settled(points: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Groups that repeated assignment leaves as they are, or the best of `_ITERATIONS`; their squared error."""
    centres, price, before = _first_centres(points, len(sizes), rng), np.zeros(len(sizes), np.float32), None
    least, best = np.inf, None
    for _ in range(_ITERATIONS):
        price = prices(distances(points, centres), sizes.astype(np.float32), price, 200)
        groups = assigned(points, centres, price, sizes)
        centres = _means(points, groups, centres)
        error = float(((points - centres[groups]) ** 2).sum())
        if best is None or error < least:
            least, best = error, groups
        if before is not None and np.array_equal(before, groups):
            break
        before = groups
    assert best is not None
    return best, least


def _first_centres(points: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Centres by k-means++: float32 [number, d]; of points that coincide, some twice."""
    from sklearn.cluster import kmeans_plusplus  # slow to import

    # Only so many, as each centre takes a pass over them.
    if len(points) > 32 * number:
        points = points[rng.choice(len(points), 32 * number, replace=False)]
    centres, _ = kmeans_plusplus(points, number, random_state=int(rng.integers(2**31)))
    return centres


def _means(points: np.ndarray, groups: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The mean of each group's points; the old centre where it has none."""
    counts = np.bincount(groups, minlength=len(centres))
    order = np.argsort(groups, kind="stable")
    some = np.flatnonzero(counts)
    sums = np.add.reduceat(points[order], np.cumsum(counts[some]) - counts[some], axis=0)
    means = centres.copy()
    means[some] = sums / counts[some, None]
    return means
