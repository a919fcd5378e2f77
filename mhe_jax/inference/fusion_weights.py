"""Weights of a late fusion, chosen on documents that are not those it is measured on."""

from collections.abc import Callable, Iterator

import numpy as np

_STEPS = 20  # parts that a weight is tried in: 0, 1/20, ..., 1
_ROUNDS = 4  # over the members, unless a round changes nothing before


def search(score: Callable[[tuple[float, ...]], float], number: int) -> tuple[tuple[float, ...], float]:
    """Weights of sum 1 that make a score large, and that score; of equal ones the first that was met.

    From equal weights on, each member in turn gets the best share of the whole, in steps of 1/20, the others keeping
    their ratios; until a round changes nothing. Of two members that tries every share.

    Args:
      score: what weights are worth, the larger the better.
      number: of members, at least 1.
    """
    best = (1 / number,) * number
    highest = score(best)
    for _ in range(_ROUNDS if number > 1 else 0):
        before = best
        for member in range(number):
            for weights in list(_shares(best, member)):
                found = score(weights)
                if found > highest:
                    best, highest = weights, found
        if best == before:
            break
    return best, highest


def _shares(weights: tuple[float, ...], member: int) -> Iterator[tuple[float, ...]]:
    """Weights in which a member has each share, and the others what is left in the ratios of `weights`."""
    others = np.array(weights)
    others[member] = 0
    if not others.any():  # alone so far: the rest is for all others alike
        others[:] = 1
        others[member] = 0
    for share in np.arange(_STEPS + 1) / _STEPS:
        found = others * ((1 - share) / others.sum())
        found[member] = share
        yield tuple(round(float(weight), 6) for weight in found)
