"""The codes that are classes as few boxes of digits, so that sums over classes factorise over the heads."""

import itertools
from collections.abc import Sequence

from mhe_jax.labels import LabelSpace

# One half-open range of digits per head; it holds every combination of them.
Box = tuple[tuple[int, int], ...]


def boxes(space: LabelSpace) -> tuple[Box, ...]:
    """Splits the classes of a space into disjoint boxes.

    >>> boxes(LabelSpace(11, (3, 4)))
    (((0, 2), (0, 4)), ((2, 3), (0, 3)))

    Without padding there is one, the whole space; with padding at most H. A free code splits the box that it lies in,
    at most into 2 H; neighbouring digits that lack the same codes below them share boxes.
    """
    ends = [-1, *space.free, space.num_classes]
    runs = [(before + 1, after) for before, after in itertools.pairwise(ends) if after - before > 1]
    return tuple(_of_runs(runs, space.strides))


def _of_runs(runs: Sequence[tuple[int, int]], strides: Sequence[int]) -> list[Box]:
    """The boxes of the codes in `runs`, half-open and ascending, as digits of these strides."""
    stride, *below = strides
    if not below:
        return [(run,) for run in runs]
    # Of a digit, or of neighbouring ones: (first, end, the runs below each).
    rows: list[tuple[int, int, tuple]] = []
    for start, end in runs:
        while start < end:
            digit = start // stride
            whole = start == digit * stride and end - start >= stride
            after = end // stride if whole else digit + 1
            stop = min(end, after * stride)
            inside = ((0, stride) if whole else (start - digit * stride, stop - digit * stride),)
            if rows and rows[-1][0] == digit:
                inside = rows.pop()[2] + inside
            if rows and rows[-1][1:] == (digit, inside):
                digit = rows.pop()[0]
            rows.append((digit, after, inside))
            start = stop
    return [((first, end), *box) for first, end, inside in rows for box in _of_runs(inside, below)]
