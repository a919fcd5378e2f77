"""Moves the rows of a head from one order of classes to another, where rows are classes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mhe_jax.labels import LabelCodes
from mhe_jax.ops.storage import Scaled

# Parameters with a row for each class, by code: of one-hot heads, and of the sampled one, whose groups are numbered.
_ROWS = {"ohe": ("kernel", "bias"), "mhs": ("weight",)}


def has_rows(head: str) -> bool:
    """Whether all that a head knows of single classes lies in rows of their own."""
    return head in _ROWS


def moved(params: dict[str, Any], head: str, theirs: LabelCodes, ours: LabelCodes | None, where: str) -> dict[str, Any]:
    """The parameters of a head whose classes had the codes `theirs`, for the codes `ours`; None: codes are ids.

    Args:
      params: of the head, arrays on the host or on a mesh, where they stay.
      head: its name in a config.
      theirs, ours: of the same classes.
      where: what the parameters are from, for the message.

    Raises:
      ValueError: if the codes differ and the head's weights belong to digits, which are shared by classes.
    """
    ours = ours or LabelCodes.identity(theirs.num_classes)
    if theirs.digest == ours.digest:
        return params
    if not has_rows(head):
        raise ValueError(
            f"{where} has other codes than this run, and the weights of a head {head!r} belong to digits, not to "
            "classes: use the same codes (codes.name = 'file' with its codes.npy), or init_parts = ('backbone',)"
        )
    if any(name.startswith("tail_") for name in params):
        raise ValueError(
            f"{where} has other codes than this run, and its frequent classes have longer rows than the others "
            "(config.head.frequent): use the same codes (codes.name = 'file' with its codes.npy), or init_parts = "
            "('backbone',)"
        )
    order = theirs.codes(ours.in_code_order(np.arange(ours.num_classes, dtype=np.int32)))
    return {name: in_order(value, order) if name in _ROWS[head] else value for name, value in params.items()}


def in_order(table: Any, order: np.ndarray) -> Any:
    """A table whose row i is row `order[i]` of `table`; rows behind them, which are padding, stay.

    Args:
      table: [R, ...] or, of groups, [n_0, n_1, D], with R or n_0 * n_1 at least C.
      order: int [C].
    """
    if isinstance(table, Scaled):
        rows = table.reshape(-1, table.shape[-1])
        return Scaled(in_order(rows.values, order), in_order(rows.scales, order)).reshape(*table.shape)
    if isinstance(table, jax.Array):
        return jax.jit(lambda table: _in_order(table, order, jnp), out_shardings=table.sharding)(table)
    return _in_order(table, order, np)


def _in_order(table: Any, order: np.ndarray, xp: Any) -> Any:
    rows = table.reshape(-1, table.shape[-1]) if table.ndim == 3 else table
    return xp.concatenate([rows[order], rows[len(order) :]]).reshape(table.shape)
