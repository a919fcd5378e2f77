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

from mhe_jax.heads.growth import filled
from mhe_jax.labels import LabelSpace

# What of the variance of the means is added to it, in the regression; infinity is the multiple of the mean alone.
_RIDGES = (np.inf, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
# Classes that are enough to find the regression by.
_MOST = 16_384


class Placed(NamedTuple):
    """Classes by their codes, int [N], and the means of their examples' features, float [N, D].

    taken: all codes of the classes of a head, where others have no examples or are left out; None: these have them all.
    """

    codes: np.ndarray
    means: np.ndarray
    taken: np.ndarray | None = None

    def among(self, low: int, high: int) -> "Placed":
        """Those with codes in low .. high - 1, counted from `low`."""
        within = lambda codes: (codes >= low) & (codes < high)
        there, taken = within(self.codes), self.taken
        taken = None if taken is None else taken[within(taken)] - low
        return Placed(self.codes[there] - low, self.means[there], taken)

    def nodes(self, stride: int) -> np.ndarray:
        """The nodes, of `stride` codes each, that classes use."""
        return np.unique((self.codes if self.taken is None else self.taken) // stride)


def begun(params: Mapping[str, Any], head: Any, trained: Placed, new: Placed) -> dict[str, Any]:
    """The parameters of a head in which the rows of new classes, and of groups that have no other, are begun.

    Nothing that a trained class uses is touched.

    Args:
      params: of the head, arrays on the host.
      head: its label space has all these codes.
      trained: the classes that the head knows and that have examples; of many, some are looked at. Rows of those that
        it has `taken` beside them are not touched either.
      new: classes with examples, whose codes no trained class has.
    """
    if len(trained.codes) > _MOST:
        some = np.random.default_rng(0).choice(len(trained.codes), _MOST, replace=False)
        taken = trained.codes if trained.taken is None else trained.taken
        trained = Placed(trained.codes[some], trained.means[some], taken)
    found: dict[str, Any] = dict(params)
    return head.begin(found, trained, new) if len(new.codes) and len(trained.codes) else found


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


def of_tables(tables: list[np.ndarray], points: tuple[np.ndarray, np.ndarray], places: tuple[Any, Any]) -> list:
    """Copies of tables with a row for each class, [C, R] or [C], in which the rows of new classes are begun.

    Args:
      tables: weights, and what is added to a logit.
      points: of trained and of new classes, what their rows are multiplied with, [N, R].
      places: of both in the tables, int [N].
    """
    known = [table[places[0]].astype(np.float32).reshape(len(places[0]), -1) for table in tables]
    rows = regressed(points[0], np.concatenate(known, axis=1), points[1])
    ends = np.cumsum([part.shape[1] for part in known])[:-1]
    found = [np.array(table) for table in tables]
    for table, part in zip(found, np.split(rows, ends, axis=1), strict=True):
        table[places[1]] = part.reshape(len(part), *table.shape[1:])
    return found


def of_tree(params: Mapping[str, Any], space: LabelSpace, trained: Placed, new: Placed) -> dict[str, Any]:
    """Cascades: a new node stands for the mean row of its classes, less what stands above it."""
    found = dict(params)
    means = _with_one(trained.means.astype(np.float64))
    rows = regressed(trained.means, _tree_rows(params, space, trained.codes), new.means).astype(np.float64)
    for level, stride in enumerate(space.strides):
        nodes, place = np.unique(new.codes // stride, return_inverse=True)
        is_new = ~np.isin(nodes, trained.nodes(stride))
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


def _tree_rows(params: Mapping[str, Any], space: LabelSpace, codes: np.ndarray) -> np.ndarray:
    parts = (_node_rows(params, level, codes // stride) for level, stride in enumerate(space.strides))
    return np.sum(list(parts), axis=0)


def _with_columns(linear: Mapping[str, Any], places: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    kernel = np.array(linear["kernel"])
    kernel[:, places] = rows[:, :-1].T
    if "bias" not in linear:
        return {"kernel": kernel}
    bias = np.array(linear["bias"])
    bias[places] = rows[:, -1]
    return {"kernel": kernel, "bias": bias}


def of_digits(params: Mapping[str, Any], head: Any, trained: Placed, new: Placed) -> dict[str, Any]:
    """Sums of products: a new first digit stands for the mean row of its classes, less what their other digits say.

    A class whose first digit is not new has no row of its own, and begins with what the others left there.
    """
    stride = head.label_space.strides[0]
    digit = new.codes // stride
    is_new = ~np.isin(digit, trained.nodes(stride))
    if not is_new.any():
        return dict(params)
    rows = regressed(trained.means, _mixture_rows(params, head, trained, first=0), new.means)
    rows = rows[is_new] - _mixture_rows(params, head, Placed(new.codes[is_new], new.means[is_new]), first=1)
    digits, place = np.unique(digit[is_new], return_inverse=True)
    mean = np.stack([rows[place == at].mean(axis=0) for at in range(len(digits))])
    found = {**params, "kernel": filled(params["kernel"], head.growing()["kernel",], digits, lambda _: mean[:, :-1])}
    if "bias" in params:
        found["bias"] = filled(params["bias"], head.growing()["bias",], digits, lambda _: mean[:, -1])
    return found


def _mixture_rows(params: Mapping[str, Any], head: Any, classes: Placed, first: int) -> np.ndarray:
    """The rows of classes at their means, [N, D + 1]: there the sum of products rises with the features like these.

    Args:
      params, head: of a `DigitTable`.
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


def of_angles(params: Mapping[str, Any], strides: Mapping[str, int], trained: Placed, new: Placed) -> dict[str, Any]:
    """Heads on cosines: a row has the direction of its classes' mean, and the length that the others have.

    Args:
      params: of the head.
      strides: of the tables with such rows, how many codes share one.
      trained, new: see `begun`.
    """
    found = dict(params)
    for name, stride in strides.items():
        table = np.array(params[name])
        rows = table.reshape(-1, table.shape[-1])
        nodes, place = np.unique(new.codes // stride, return_inverse=True)
        known = np.unique(trained.codes // stride)
        length = np.linalg.norm(rows[known].astype(np.float32), axis=1).mean()
        for at in np.flatnonzero(~np.isin(nodes, trained.nodes(stride))):
            mean = new.means[place == at].mean(axis=0)
            rows[nodes[at]] = mean * (length / max(np.linalg.norm(mean), 1e-12))
        found[name] = table
    return found
