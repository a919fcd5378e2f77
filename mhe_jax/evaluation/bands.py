"""Classes by how many training examples they have: the head, the middle and the tail of the distribution."""

import numpy as np


def parse(bands: str) -> tuple[int, int] | None:
    """`config.eval_bands`: None for 'thirds', else its two numbers, as 100 and 20 of '100,20'.

    Raises:
      ValueError: if it is neither.
    """
    if bands == "thirds":
        return None
    try:
        many, few = (int(part) for part in bands.split(","))
    except ValueError:
        many, few = 0, 1
    if not many >= few > 0:
        raise ValueError(
            f"config.eval_bands is {bands!r}; it must be 'thirds', or two numbers of training examples such as '100,20'"
        )
    return many, few


def bands_of(counts: np.ndarray, bands: str) -> np.ndarray:
    """The band of each class, int8 [C]: 0 is the head, 1 the middle, 2 the tail.

    With 'thirds' the classes are ordered by `counts`, equal ones by their number, and cut into three equal parts; with
    '100,20' the head has more than 100 examples, the tail fewer than 20 (Liu et al., Large-Scale Long-Tailed
    Recognition, CVPR 2019).

    >>> bands_of(np.array([1, 500, 60, 20, 101, 3]), "100,20").tolist()
    [2, 0, 1, 1, 0, 2]
    >>> bands_of(np.array([1, 500, 60, 20, 101, 3]), "thirds").tolist()
    [2, 0, 1, 1, 0, 2]
    """
    limits = parse(bands)
    found = np.empty(len(counts), np.int8)
    if limits is None:
        found[np.argsort(-counts, kind="stable")] = np.arange(len(counts)) * 3 // len(counts)
    else:
        found[:] = np.where(counts > limits[0], 0, np.where(counts < limits[1], 2, 1))
    return found
