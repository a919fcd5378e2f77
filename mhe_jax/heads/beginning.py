"""Rows of new classes to begin with, from the mean features of their examples, before any step.

A trained head has shown what row belongs to which mean: a ridge regression from the means of the trained classes to
their rows is asked for those of the new ones. It begins at the multiple of the mean that fits best, which is all that
weight imprinting takes (Qi et al., arXiv 1712.07136), and corrects it as far as leaving out one class after the other
says that it helps.

A row is the linear map of a class's logit: its weights, and at the end what is added.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mhe_jax.heads.base import Head
from mhe_jax.heads.digit_table import DigitTable
from mhe_jax.heads.group_table import GroupTable
from mhe_jax.heads.growth import filled, growing
from mhe_jax.heads.margin.base import MarginHead
from mhe_jax.heads.margin.cascade import CascadeMarginHead
from mhe_jax.heads.margin.product import ProductMarginHead
from mhe_jax.heads.one_hot_table import OneHotTable

# What of the variance of the means is added to it, in the regression; infinity is the multiple of the mean alone.
_RIDGES = (np.inf, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
# Classes that are enough to find the regression by.
_MOST = 16_384


class Placed(NamedTuple):
    """Classes by their codes, int [N], and the means of their examples' features, float [N, D]."""

    codes: np.ndarray
    means: np.ndarray


def begun(params: Mapping[str, Any], head: Head, trained: Placed, new: Placed) -> dict[str, Any]:
    """The parameters in which the rows of new classes, and of groups that have no other, are begun.

    Nothing that a trained class uses is touched. Of heads whose classes share digits, `mhp`, that is all that can be
    done: a new class gets a row of its own only where its first digit is new, and shares it with the others there.

    Args:
      params: of the head, arrays on the host.
      head: its label space has all these codes.
      trained: the classes that the head knows and that have examples; of many, some are looked at.
      new: classes with examples, whose codes no trained class has.
    """
    if len(trained.codes) > _MOST:
        some = np.random.default_rng(0).choice(len(trained.codes), _MOST, replace=False)
        trained = Placed(*(part[some] for part in trained))
    if not len(new.codes) or not len(trained.codes):
        return dict(params)
    if isinstance(head, MarginHead):
        return _of_angles(params, head, trained, new)
    if isinstance(head, OneHotTable):
        return _of_rows(params, head, trained, new)
    if isinstance(head, GroupTable):
        flat = params["weight"].reshape(-1, head.features_dim)
        rows = regressed(trained.means, np.asarray(flat[trained.codes], np.float32), new.means)
        flat = flat.copy()
        flat[new.codes] = rows
        return {**params, "weight": flat.reshape(params["weight"].shape)}
    if isinstance(head, DigitTable):
        return _of_digits(params, head, trained, new)
    return _of_tree(params, head, trained, new)


def regressed(means: np.ndarray, rows: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The rows [M, R] that belong to the means `asked` [M, D], as `rows` [N, R] belong to `means` [N, D].

    R may be D, D + 1 with what is added to a logit at the end, or any other number.
    """
    centre, level = means.mean(axis=0), rows.mean(axis=0)
    x, y, wanted = (np.asarray(part, np.float64) for part in (means - centre, rows - level, asked - centre))
    shared = min(x.shape[1], y.shape[1]) if y.shape[1] - x.shape[1] in (0, 1) else 0
    multiple = (x[:, :shared] * y[:, :shared]).sum() / max((x[:, :shared] ** 2).sum(), 1e-30)
    first = np.zeros((len(x), y.shape[1])), np.zeros((len(wanted), y.shape[1]))
    for found, points in zip(first, (x, wanted), strict=True):
        found[:, :shared] = multiple * points[:, :shared]
    rest, correction = y - first[0], np.zeros_like(first[1])
    # Of x = U S V': what a class's own example did to its prediction is known without another fit.
    u, s, v = np.linalg.svd(x, full_matrices=False)
    variance, least = max((s**2).mean(), 1e-30), (rest**2).sum()
    for ridge in _RIDGES[1:]:
        shrunk = s**2 / (s**2 + ridge * variance)
        own = 1 / len(x) + (u**2 * shrunk).sum(axis=1)
        error = (((rest - (u * shrunk) @ (u.T @ rest)) / np.maximum(1 - own, 1e-6)[:, None]) ** 2).sum()
        if error < least:
            least, weights = error, shrunk / np.maximum(s, 1e-30)
            correction = (wanted @ v.T * weights) @ (u.T @ rest)
    return (level + first[1] + correction).astype(np.float32)


def _with_one(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((len(points), 1), points.dtype)], axis=1)


def _of_rows(params: Mapping[str, Any], head: OneHotTable, trained: Placed, new: Placed) -> dict[str, Any]:
    """One-hot tables, of the features or of their projection."""
    found, first = dict(params), head.frequent or head.label_space.num_classes
    for prefix, low, high in (("", 0, first), ("tail_", first, head.label_space.num_classes)):
        of = [Placed(*(part[(one.codes >= low) & (one.codes < high)] for part in one)) for one in (trained, new)]
        if not all(len(one.codes) for one in of):
            continue
        points = [one.means for one in of]
        if head.bottleneck and (prefix or not head.frequent):
            projection = params["projection"]
            points = [x @ projection["kernel"] + projection.get("bias", 0) for x in points]
        names = [f"{prefix}{name}" for name in ("kernel", "bias") if f"{prefix}{name}" in params]
        tables = [np.array(params[name]) for name in names]
        known = [table[of[0].codes - low].astype(np.float32).reshape(len(of[0].codes), -1) for table in tables]
        rows = regressed(points[0], np.concatenate(known, axis=1), points[1])
        for name, table in zip(names, tables, strict=True):
            table[of[1].codes - low] = rows[:, -1] if name.endswith("bias") else rows[:, : table.shape[1]]
            found[name] = table
    return found


def _of_tree(params: Mapping[str, Any], head: Any, trained: Placed, new: Placed) -> dict[str, Any]:
    """Cascades: a new node stands for the mean row of its classes, less what stands above it."""
    found, space = dict(params), head.label_space
    means = _with_one(trained.means.astype(np.float64))
    rows = regressed(trained.means, _tree_rows(params, head, trained.codes), new.means).astype(np.float64)
    for level, stride in enumerate(space.strides):
        nodes, place = np.unique(new.codes // stride, return_inverse=True)
        is_new = ~np.isin(nodes, trained.codes // stride)
        if is_new.any():
            left = np.stack([rows[place == at].mean(axis=0) for at in np.flatnonzero(is_new)])
            if level == 0:
                found["root"] = _with_columns(found["root"], nodes[is_new], left)
            else:
                queries = means @ _map(params[f"project_{level}"])
                entries = np.linalg.lstsq(queries, means @ left.T, rcond=1e-4)[0].T
                table = np.array(found[f"table_{level}"])
                table.reshape(-1, table.shape[2])[nodes[is_new]] = entries
                found[f"table_{level}"] = table
        rows = rows - _node_rows(found, level, nodes)[place]
    return found


def _map(linear: Mapping[str, Any]) -> np.ndarray:
    """An affine map [D + 1, outputs] of points with a one behind them."""
    kernel = np.asarray(linear["kernel"], np.float64)
    return np.concatenate([kernel, np.asarray(linear.get("bias", np.zeros(kernel.shape[1])), np.float64)[None]])


def _node_rows(params: Mapping[str, Any], level: int, nodes: np.ndarray) -> np.ndarray:
    """What nodes of a level of a cascade add to the rows of their classes, [N, D + 1]."""
    if level == 0:
        return _map(params["root"]).T[nodes]
    table = np.asarray(params[f"table_{level}"], np.float64)
    entries: np.ndarray = table.reshape(-1, table.shape[2])[nodes] @ _map(params[f"project_{level}"]).T
    return entries


def _tree_rows(params: Mapping[str, Any], head: Any, codes: np.ndarray) -> np.ndarray:
    parts = (_node_rows(params, level, codes // stride) for level, stride in enumerate(head.label_space.strides))
    return np.sum(list(parts), axis=0)


def _with_columns(linear: Mapping[str, Any], places: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    kernel = np.array(linear["kernel"])
    kernel[:, places] = rows[:, :-1].T
    if "bias" not in linear:
        return {"kernel": kernel}
    bias = np.array(linear["bias"])
    bias[places] = rows[:, -1]
    return {"kernel": kernel, "bias": bias}


def _of_digits(params: Mapping[str, Any], head: DigitTable, trained: Placed, new: Placed) -> dict[str, Any]:
    """Sums of products: a new first digit stands for the mean row of its classes, less what their other digits say."""
    digit = new.codes // head.label_space.strides[0]
    is_new = ~np.isin(digit, trained.codes // head.label_space.strides[0])
    if not is_new.any():
        return dict(params)
    rows = regressed(trained.means, _mixture_rows(params, head, trained, first=0), new.means)
    rows = rows[is_new] - _mixture_rows(params, head, Placed(*(part[is_new] for part in new)), first=1)
    digits, place = np.unique(digit[is_new], return_inverse=True)
    mean = np.stack([rows[place == at].mean(axis=0) for at in range(len(digits))])
    found = {**params, "kernel": filled(params["kernel"], growing(head)["kernel",], digits, lambda _: mean[:, :-1])}
    if "bias" in params:
        found["bias"] = filled(params["bias"], growing(head)["bias",], digits, lambda _: mean[:, -1])
    return found


def _mixture_rows(params: Mapping[str, Any], head: DigitTable, classes: Placed, first: int) -> np.ndarray:
    """The rows of classes at their means, [N, D + 1]: there the sum of products rises with the features like these.

    Args:
      params, head: the head.
      classes: whose rows.
      first: the digits before it are left out.
    """
    space = head.label_space
    kernel = np.asarray(params["kernel"], np.float64).reshape(head.features_dim, head.rank, -1)
    bias = np.asarray(params["bias"], np.float64) if "bias" in params else np.zeros(kernel[0].size)
    maps = np.concatenate([kernel, bias.reshape(1, head.rank, -1)]).transpose(2, 1, 0)  # [S, R, D + 1]
    offsets = np.cumsum([0, *space.head_sizes[:-1]])
    slots = space.encode(classes.codes)[:, first:] + offsets[first:]
    rows = maps[slots].sum(axis=1)  # [N, R, D + 1]
    points = _with_one(classes.means.astype(np.float64))
    logits = np.einsum("nrd,nd->nr", rows, points)
    top = logits.max(axis=1, keepdims=True)
    total = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    found = np.einsum("nr,nrd->nd", np.exp(logits - total), rows)
    found[:, -1] += total[:, 0] - (found * points).sum(axis=1)
    return found


def _of_angles(params: Mapping[str, Any], head: MarginHead, trained: Placed, new: Placed) -> dict[str, Any]:
    """Heads on cosines: a row has the direction of its classes' mean, and the length that the others have."""
    if getattr(head, "sub_centers", 1) > 1:
        raise ValueError(
            f"config.head.sub_centers is {head.sub_centers}: which of its rows a new class begins with is not known; "
            "extend a run with one"
        )
    found, space = dict(params), head.label_space
    if isinstance(head, ProductMarginHead):
        levels = {"kernel": (0, space.strides[0])}
    elif isinstance(head, CascadeMarginHead):
        levels = {f"table_{level}": (level, stride) for level, stride in enumerate(space.strides)}
    else:
        levels = {next(name for (name,) in growing(head)): (space.num_heads - 1, 1)}
    for name, (_, stride) in levels.items():
        table = np.array(params[name])
        rows = table.reshape(-1, table.shape[-1])
        nodes, place = np.unique(new.codes // stride, return_inverse=True)
        known = np.unique(trained.codes // stride)
        length = np.linalg.norm(rows[known].astype(np.float32), axis=1).mean()
        for at in np.flatnonzero(~np.isin(nodes, known)):
            mean = new.means[place == at].mean(axis=0)
            rows[nodes[at]] = mean * (length / max(np.linalg.norm(mean), 1e-12))
        found[name] = table
    return found
