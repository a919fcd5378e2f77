"""Points to groups that hold so many and no more, each as near to its group's centre as the others let it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

# Distances that are in memory at a time, 4 bytes each.
_BLOCK = 2**22
# Groups that a point asks for before it takes what is left.
_CHOICES = 4


class Wanted(NamedTuple):
    """The groups that points want: their numbers int32 [N, T], the cheapest first, and what each costs [N, T]."""

    groups: np.ndarray
    costs: np.ndarray


def distances(points: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "n k"]:
    """Squared distances less the square of the point, which is the same for all groups; float32."""
    products = points.astype(np.float32, copy=False) @ (-2 * centres.T)
    products += (centres**2).sum(axis=1)
    return products


def prices(
    costs: Float[np.ndarray, "n k"], room: Float[np.ndarray, "k"], start: Float[np.ndarray, "k"], rounds: int
) -> Float[np.ndarray, "k"]:
    """What entering each group must cost, so that about as many points choose it as it has room for.

    The dual of the assignment: the price of a group that is asked for too much rises, that of another falls, to 0 at
    the least; each by steps of its own, which grow while the sign stays and shrink where it turns (as in Rprop).

    Args:
      costs: of points in groups.
      room: of the groups, in points; together at least N, up to rounding.
      start: prices to begin with.
      rounds: how often prices are changed.
    """
    price, best = start.astype(np.float32), start.astype(np.float32)
    # At first as far as a point is from its second choice; some rows tell.
    low = np.sort(costs[:4096], axis=1)[:, :2]
    step = np.full(len(room), max(float(np.ptp(low, axis=1).mean()), 1e-12), np.float32)
    sign, least = np.zeros(len(room)), np.inf
    for _ in range(rounds):
        excess = np.bincount(cheapest(costs, price), minlength=len(room)) - room
        overflow = np.maximum(excess, 0).sum()
        if overflow < least:
            least, best = overflow, price.copy()
        if overflow < 1:
            break
        now = np.where((excess < 0) & (price <= 0), 0, np.sign(excess))
        step *= np.where(now * sign > 0, 1.3, np.where(now * sign < 0, 0.5, 1)).astype(np.float32)
        price, sign = np.maximum(price + step * now, 0).astype(np.float32), now
    return best


def cheapest(costs: Float[np.ndarray, "n k"], price: Float[np.ndarray, "k"]) -> Int[np.ndarray, "n"]:
    """The group of each point with the least cost plus price; a block of rows at a time, as costs may be 16 GiB."""
    rows = max(1, _BLOCK // len(price))
    blocks = [(costs[start : start + rows] + price).argmin(axis=1) for start in range(0, len(costs), rows)]
    return np.concatenate(blocks)


def assigned(
    points: Float[np.ndarray, "n d"],
    centres: Float[np.ndarray, "k d"],
    price: Float[np.ndarray, "k"],
    room: Int[np.ndarray, "k"],
) -> Int[np.ndarray, "n"]:
    """The group of each point, int32 [N], none with more points than it has room for.

    Points ask for the groups in the order of distance plus price. A group that is asked by too many takes those to whom
    the next choice would cost most; the others ask on. Who has no choice left chooses among the groups with room.

    Args:
      points, centres, price: of N points and K groups.
      room: of the groups; together at least N.
    """
    found, room = np.full(len(points), -1, np.int32), room.copy()
    left = np.arange(len(points))
    while len(left):
        free = np.flatnonzero(room).astype(np.int32)
        wanted = _wanted(points, left, centres[free], price[free])
        found[left] = _served(Wanted(free[wanted.groups], wanted.costs), room)
        left = left[found[left] < 0]
    return found


def _wanted(points: np.ndarray, left: np.ndarray, centres: np.ndarray, price: np.ndarray) -> Wanted:
    """The cheapest groups of the points `left`."""
    count = min(_CHOICES, len(centres))
    groups, costs = np.empty((len(left), count), np.int32), np.empty((len(left), count), np.float32)
    rows = max(1, _BLOCK // len(centres))
    for start in range(0, len(left), rows):
        block = slice(start, start + rows)
        chosen = left[block]
        # A slice is no copy: at first all points are left.
        whole = chosen[-1] - chosen[0] + 1 == len(chosen)
        cost = distances(points[chosen[0] : chosen[-1] + 1] if whole else points[chosen], centres) + price
        nearest = np.argpartition(cost, count - 1, axis=1)[:, :count]
        cost = np.take_along_axis(cost, nearest, axis=1)
        order = np.argsort(cost, axis=1, kind="stable")
        groups[block], costs[block] = (np.take_along_axis(part, order, axis=1) for part in (nearest, cost))
    return Wanted(groups, costs)


def _served(wanted: Wanted, room: np.ndarray) -> np.ndarray:
    """The group of each point that gets one of those it wants, -1 for the others; `room` becomes what is left."""
    count = wanted.groups.shape[1]
    found, asking = np.full(len(wanted.groups), -1, np.int32), np.arange(len(wanted.groups))
    for place in range(count):
        group, cost = wanted.groups[asking, place], wanted.costs[asking, place]
        regret = wanted.costs[asking, place + 1] - cost if place + 1 < count else -cost
        order = np.lexsort((-regret, group))
        by_group = group[order]
        asked = np.bincount(group, minlength=len(room))
        rank = np.arange(len(by_group)) - (np.cumsum(asked) - asked)[by_group]
        served = order[rank < room[by_group]]
        found[asking[served]] = group[served]
        room -= np.bincount(group[served], minlength=len(room)).astype(room.dtype)
        asking = asking[found[asking] < 0]
    return found
