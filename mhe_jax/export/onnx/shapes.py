"""Operations that move elements to other places of known positions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mhe_jax.export.onnx.graph import Graph


def reshape(graph: Graph, x: str, sizes: Any) -> str:
    """x in another shape; no size is 0, of which ONNX would make that of x."""
    return graph.add("Reshape", x, graph.shape(sizes), allowzero=1)


def _reshape(graph, equation, x, *_):
    return reshape(graph, x, equation.outvars[0].aval.shape)


def _broadcast(graph, equation, x, *_):
    shape, places = equation.outvars[0].aval.shape, equation.params["broadcast_dimensions"]
    before = equation.invars[0].aval.shape
    aligned = [1] * len(shape)
    for place, size in zip(places, before, strict=True):
        aligned[place] = size
    if tuple(aligned) != tuple(before):
        x = reshape(graph, x, aligned)
    return x if tuple(aligned) == tuple(shape) else graph.add("Expand", x, graph.shape(shape))


def _transpose(graph, equation, x):
    return graph.add("Transpose", x, perm=list(equation.params["permutation"]))


def _concatenate(graph, equation, *parts):
    return graph.add("Concat", *parts, axis=equation.params["dimension"])


def _stack(graph, equation, *parts):
    axis = graph.constant([equation.params["axis"]], np.int64)
    return graph.add("Concat", *(graph.add("Unsqueeze", part, axis) for part in parts), axis=equation.params["axis"])


def _split(graph, equation, x):
    sizes = graph.shape(equation.params["sizes"])
    count = len(equation.outvars)
    found = graph.add("Split", x, sizes, outputs=count, axis=equation.params["axis"])
    return [found] if count == 1 else found


def _unstack(graph, equation, x):
    axis = equation.params["axis"]
    take = lambda place: graph.add("Gather", x, graph.constant(place, np.int64), axis=axis)
    return [take(place) for place in range(len(equation.outvars))]


def _slice(graph, equation, x):
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or (1,) * len(starts)
    return graph.add(
        "Slice",
        x,
        graph.shape(starts),
        graph.shape(limits),
        graph.constant(range(len(starts)), np.int64),
        graph.constant(steps, np.int64),
    )


def _reversed(graph, equation, x):
    axes = equation.params["dimensions"]
    last = np.iinfo(np.int64).min
    of_each = [graph.constant([value] * len(axes), np.int64) for value in (-1, last, -1)]
    return graph.add("Slice", x, of_each[0], of_each[1], graph.constant(axes, np.int64), of_each[2])


def _pad(graph, equation, x, value):
    config = equation.params["padding_config"]
    if any(inside for _, _, inside in config):
        raise NotImplementedError("padding between elements")
    sizes = graph.shape([low for low, _, _ in config] + [high for _, high, _ in config])
    return graph.add("Pad", x, sizes, value)


def _iota(graph, equation, *_):
    shape, axis = equation.params["shape"], equation.params["dimension"]
    dtype = equation.params["dtype"]
    one, zero = graph.constant(1, np.int64), graph.constant(0, np.int64)
    length = graph.add("Squeeze", graph.size(shape[axis]), graph.constant([0], np.int64))
    line = graph.add("Cast", graph.add("Range", zero, length, one), to=graph.dtype(dtype))
    aligned = [1] * len(shape)
    aligned[axis] = shape[axis]
    line = reshape(graph, line, aligned)
    return line if tuple(aligned) == tuple(shape) else graph.add("Expand", line, graph.shape(shape))


def _dim_as_value(graph, equation):
    scalar = reshape(graph, graph.size(equation.params["dim"]), [])
    return graph.add("Cast", scalar, to=graph.dtype(equation.outvars[0].aval.dtype))


RULES: dict[str, Callable] = {
    "dim_as_value": _dim_as_value,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "unstack": _unstack,
    "slice": _slice,
    "rev": _reversed,
    "pad": _pad,
    "iota": _iota,
}
