"""A head's parameters for more groups of classes, or fewer: what is there stays where it is, to the bit."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mhe_jax.heads.base import Head
from mhe_jax.heads.digit_table import DigitTable
from mhe_jax.heads.group_table import GroupTable
from mhe_jax.heads.margin.cascade import CascadeMarginHead
from mhe_jax.heads.margin.one_hot import OneHotMarginHead
from mhe_jax.heads.margin.product import ProductMarginHead
from mhe_jax.heads.margin.sampled import SampledMarginHead
from mhe_jax.heads.multilabel.cascade import MultiLabelCascadeHead
from mhe_jax.heads.one_hot_table import OneHotTable
from mhe_jax.heads.softmax.cascade import CascadeHead
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


def growing(head: Head) -> dict[Path, Growing]:
    """The parameters of a head that get longer with its first digit, or where that is the class, with the classes."""
    space = head.label_space
    groups = space.head_sizes[0]
    if isinstance(head, OneHotTable):
        first = Growing(0, head.frequent or space.num_classes)
        found: dict[Path, Growing] = {("kernel",): first, ("bias",): first}
        if head.frequent:
            rest = Growing(0, space.num_classes - head.frequent)
            found |= dict.fromkeys([("tail_kernel",), ("tail_bias",)], rest)
        return found
    if isinstance(head, OneHotMarginHead):
        return {("kernel",): Growing(0, space.num_classes)}
    if isinstance(head, GroupTable | SampledMarginHead):
        return {("weight",): Growing(0, groups)}
    if isinstance(head, DigitTable):
        return {
            ("kernel",): Growing(1, groups, copies=head.rank, keeps_rest=True),
            ("bias",): Growing(0, groups, copies=head.rank, keeps_rest=True),
        }
    if isinstance(head, ProductMarginHead):
        return {("kernel",): Growing(0, groups, keeps_rest=True)}
    found = {
        (f"table_{level}",): Growing(0, math.prod(space.head_sizes[:level])) for level in range(1, space.num_heads)
    }
    if isinstance(head, CascadeMarginHead):
        return {("table_0",): Growing(1, groups), **found}
    assert isinstance(head, CascadeHead | MultiLabelCascadeHead)
    return {("root", "kernel"): Growing(1, groups), ("root", "bias"): Growing(0, groups), **found}


def resized(params: Mapping[str, Any], head: Head, wanted: Head, abstract: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of `head`, for `wanted`, which is the same but for the number of groups, or of classes.

    What both have is the same to the bit; what `wanted` has more is 0.

    Args:
      params: of `head`, arrays on the host.
      head, wanted: their spaces differ in digit 0, and in the number of classes.
      abstract: shapes of the parameters of `wanted`, whose tables may have rows of padding.

    Raises:
      ValueError: for a table of another storage than plain numbers.
    """
    before, after = growing(head), growing(wanted)

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
