"""A head's parameters for more groups of classes, or fewer: what is there stays where it is, to the bit."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mhe_jax.labels import LabelSpace
from mhe_jax.ops.storage import Scaled

# Of a parameter in the tree of a head's.
Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Growing:
    """The axis along which a parameter has groups, or classes, and their number.

    Attributes:
      axis: of the array.
      length: places of groups along it, from the first on; rows of padding, or other digits, come behind them.
      copies: how often the whole axis is repeated, one copy after the other.
      keeps_rest: whether what comes behind the groups is of the model, as other digits are; padding is not.
    """

    axis: int
    length: int
    copies: int = 1
    keeps_rest: bool = False


def of_tree(space: LabelSpace, roots: Mapping[Path, int]) -> dict[Path, Growing]:
    """Of the tables `table_1`, `table_2`, ... of a cascade, and of what has level 0 along an axis that `roots` says."""
    found = {path: Growing(axis, space.head_sizes[0]) for path, axis in roots.items()}
    for level in range(1, space.num_heads):
        found[f"table_{level}",] = Growing(0, math.prod(space.head_sizes[:level]))
    return found


def resized(params: Mapping[str, Any], head: Any, wanted: Any, abstract: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of `head`, for `wanted`, which is the same but for the number of groups, or of classes.

    What both have is the same to the bit; what `wanted` has more is 0.

    Args:
      params: of `head`, arrays on the host.
      head, wanted: heads, whose spaces differ in digit 0, and in the number of classes.
      abstract: shapes of the parameters of `wanted`, whose tables may have rows of padding.

    Raises:
      ValueError: for a table of another storage than plain numbers.
    """
    before, after = head.growing(), wanted.growing()

    def at(path: Path, value: Any, shape: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: at((*path, name), inner, shape[name]) for name, inner in value.items()}
        if path not in before:
            return value
        if isinstance(value, Scaled):
            raise ValueError(
                "a table with rows of float8 numbers cannot be extended: train with config.table_optimizer.storage = "
                "'bfloat16' or 'float32'"
            )
        return _resized(np.asarray(value), before[path], after[path], tuple(shape.shape))

    return {name: at((name,), value, abstract[name]) for name, value in params.items()}


def _resized(array: np.ndarray, before: Growing, after: Growing, shape: tuple[int, ...]) -> np.ndarray:
    def part(rows: np.ndarray) -> np.ndarray:
        """One copy, its axis the first one."""
        kept = rows[: min(before.length, after.length)]
        rest = rows[before.length :] if before.keeps_rest else rows[:0]
        new = np.zeros((after.length - len(kept), *rows.shape[1:]), rows.dtype)
        return np.concatenate([kept, new, rest])

    copies = np.split(np.moveaxis(array, before.axis, 0), before.copies)
    joined = np.concatenate([part(copy) for copy in copies])
    missing = shape[before.axis] - len(joined)
    padded = np.pad(joined, [(0, missing), *[(0, 0)] * (joined.ndim - 1)])
    return np.ascontiguousarray(np.moveaxis(padded, 0, before.axis))


def filled(array: np.ndarray, growing: Growing, places: np.ndarray, rows: Callable[[int], np.ndarray]) -> np.ndarray:
    """A copy of a parameter in which the groups, or classes, at `places` are `rows(copy)`, [places, ...]."""
    moved = np.moveaxis(np.array(array), growing.axis, 0)
    length = len(moved) // growing.copies
    for copy in range(growing.copies):
        moved[copy * length + places] = rows(copy)
    return np.ascontiguousarray(np.moveaxis(moved, 0, growing.axis))
