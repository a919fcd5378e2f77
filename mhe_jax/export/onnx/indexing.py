"""Operations whose places are values themselves: gathers, scatters, slices from a place, sorting, the largest k."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax

from mhe_jax.export.onnx.graph import Graph
from mhe_jax.export.onnx.shapes import reshape


def _top_k(graph, equation, x):
    k, axis = equation.params["k"], equation.params.get("axis", -1)
    # Of equals, ONNX too takes the first.
    values, places = graph.add("TopK", x, graph.constant([k], np.int64), outputs=2, axis=axis)
    return [values, graph.add("Cast", places, to=graph.dtype(equation.outvars[1].aval.dtype))]


def _sort(graph, equation, *operands):
    if len(operands) != 1:
        raise NotImplementedError("sort of several arrays")
    axis = equation.params["dimension"]
    size = graph.size(equation.invars[0].aval.shape[axis])
    return graph.add("TopK", operands[0], size, outputs=2, axis=axis, largest=0)[:1]


def _dynamic_slice(graph, equation, x, *starts):
    shape, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    last = graph.shape([whole - part for whole, part in zip(shape, sizes, strict=True)])
    one = [graph.add("Cast", reshape(graph, start, [1]), to=graph.dtype(np.int64)) for start in starts]
    first = graph.add("Concat", *one, axis=0)
    first = graph.add("Min", graph.add("Max", first, graph.constant([0], np.int64)), last)
    return graph.add("Slice", x, first, graph.add("Add", first, graph.shape(sizes)))


def _gather(graph: Graph, equation: Any, x: str, places: str, *_: str) -> str:
    """XLA's gather of single places along some axes and whole ones along the others, by GatherND."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    operand, indices = (atom.aval for atom in equation.invars[:2])
    shared, indexed = numbers.operand_batching_dims, numbers.start_index_map
    is_filled = equation.params["mode"] == lax.GatherScatterMode.FILL_OR_DROP
    if indices.ndim == 1 and not is_filled:
        return _one_window(graph, equation, x, places)
    window = [axis for axis in range(operand.ndim) if axis not in (*shared, *indexed)]
    partial = [axis for axis in window if sizes[axis] != operand.shape[axis]]
    if partial or any(sizes[axis] != 1 for axis in indexed):
        raise NotImplementedError("a gather of parts of axes")
    places = graph.add("Cast", places, to=graph.dtype(np.int64))
    last = graph.add("Sub", graph.shape([operand.shape[axis] for axis in indexed]), graph.constant([1], np.int64))
    zero = graph.constant([0], np.int64)
    inside = graph.add("Min", graph.add("Max", places, zero), last)
    # What both share comes first: GatherND has it as `batch_dims`.
    x = graph.add("Transpose", x, perm=[*shared, *indexed, *window])
    batch = numbers.start_indices_batching_dims
    others = [axis for axis in range(indices.ndim - 1) if axis not in batch]
    found = graph.add(
        "GatherND",
        x,
        graph.add("Transpose", inside, perm=[*batch, *others, indices.ndim - 1]),
        batch_dims=len(shared),
    )
    if is_filled:
        same = graph.add("Cast", graph.add("Equal", places, inside), to=graph.dtype(np.int32))
        known = graph.add("ReduceMin", same, graph.constant([-1], np.int64), keepdims=0)
        known = graph.add("Cast", graph.add("Transpose", known, perm=[*batch, *others]), to=graph.dtype(bool))
        if window:
            axes = range(len(batch) + len(others), len(batch) + len(others) + len(window))
            known = graph.add("Unsqueeze", known, graph.constant(axes, np.int64))
        found = graph.add("Where", known, found, _fill(graph, equation))
    # The axes of `found`: those of the places, then the window; XLA may have them elsewhere, and axes of one beside.
    result = equation.outvars[0].aval
    kept = [axis for axis in range(operand.ndim) if axis not in (*numbers.collapsed_slice_dims, *shared)]
    of_window = {axis: place for axis, place in zip(kept, numbers.offset_dims, strict=True)}
    of_places = [place for place in range(result.ndim) if place not in numbers.offset_dims]
    order = [of_places[axis] for axis in (*batch, *others)] + [of_window[axis] for axis in window]
    found = graph.add("Transpose", found, perm=[int(place) for place in np.argsort(order)])
    return reshape(graph, found, result.shape) if len(order) < result.ndim else found


def _one_window(graph: Graph, equation: Any, x: str, start: str) -> str:
    """A gather of one place: a slice from there, as JAX writes them where sizes are symbolic."""
    shape, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    axes = equation.params["dimension_numbers"].start_index_map
    start = graph.add("Cast", start, to=graph.dtype(np.int64))
    last = graph.shape([shape[axis] - sizes[axis] for axis in axes])
    start = graph.add("Min", graph.add("Max", start, graph.constant([0], np.int64)), last)
    end = graph.add("Add", start, graph.shape([sizes[axis] for axis in axes]))
    found = graph.add("Slice", x, start, end, graph.constant(axes, np.int64))
    result = equation.outvars[0].aval.shape
    return reshape(graph, found, result) if len(result) < len(shape) else found


def _scatter(graph: Graph, equation: Any, x: str, places: str, updates: str) -> str:
    """Single values in the place of others, all of them inside."""
    numbers, operand = equation.params["dimension_numbers"], equation.invars[0].aval
    if numbers.update_window_dims or numbers.operand_batching_dims or len(numbers.inserted_window_dims) != operand.ndim:
        raise NotImplementedError("a scatter of parts of axes")
    order = np.argsort(numbers.scatter_dims_to_operand_dims).tolist()
    places = graph.add("Cast", places, to=graph.dtype(np.int64))
    places = graph.add("Gather", places, graph.constant(order, np.int64), axis=-1)
    return graph.add("ScatterND", x, places, updates)


def _fill(graph: Graph, equation: Any) -> str:
    """What stands for places outside."""
    dtype, value = equation.outvars[0].aval.dtype, equation.params["fill_value"]
    if value is None:
        kind = np.dtype(dtype).kind
        value = np.nan if kind == "f" else True if kind == "b" else np.iinfo(dtype).min if kind == "i" else None
        value = np.iinfo(dtype).max if value is None else value
    return graph.constant(value, dtype)


RULES: dict[str, Callable] = {
    "top_k": _top_k,
    "sort": _sort,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "scatter": _scatter,
}
