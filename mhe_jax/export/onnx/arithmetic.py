"""Operations of one element each, products, convolutions and reductions."""

import string
from collections.abc import Callable
from typing import Any

import numpy as np

from mhe_jax.export.onnx.graph import Graph


def _named(op: str, **attributes: Any):
    """A rule for what ONNX has under another name."""
    return lambda graph, equation, *names: graph.add(op, *names, **attributes)


def _dtype(equation: Any) -> np.dtype:
    return equation.invars[0].aval.dtype


def _is_bool(equation: Any) -> bool:
    return np.issubdtype(_dtype(equation), np.bool_)


def _same(graph: Graph, equation: Any, *names: str) -> list[str]:
    return list(names)


def _by_kind(of_bools: str, of_numbers: str):
    """A rule for what ONNX keeps apart: operations on truth values, and on numbers."""

    def rule(graph: Graph, equation: Any, *names: str) -> str:
        return graph.add(of_bools if _is_bool(equation) else of_numbers, *names)

    return rule


def _cast(graph: Graph, name: str, dtype: Any) -> str:
    return graph.add("Cast", name, to=graph.dtype(dtype))


def _convert(graph, equation, x):
    return _cast(graph, x, equation.params["new_dtype"])


def _rem(graph, equation, x, y):
    return graph.add("Mod", x, y, fmod=1)


def _ne(graph, equation, x, y):
    return graph.add("Not", graph.add("Equal", x, y))


def _is_finite(graph, equation, x):
    return graph.add("Not", graph.add("Or", graph.add("IsNaN", x), graph.add("IsInf", x)))


def _select(graph, equation, which, *cases):
    if not _is_bool(equation) or len(cases) != 2:
        raise NotImplementedError("select_n of more than two cases")
    return graph.add("Where", which, cases[1], cases[0])


def _clamp(graph, equation, low, x, high):
    return graph.add("Min", graph.add("Max", x, low), high)


def _integer_pow(graph, equation, x):
    return graph.add("Pow", x, graph.constant(equation.params["y"], _dtype(equation)))


def _square(graph, equation, x):
    return graph.add("Mul", x, x)


def _rsqrt(graph, equation, x):
    return graph.add("Reciprocal", graph.add("Sqrt", x))


def _log1p(graph, equation, x):
    return graph.add("Log", graph.add("Add", x, graph.constant(1, _dtype(equation))))


def _expm1(graph, equation, x):
    return graph.add("Sub", graph.add("Exp", x), graph.constant(1, _dtype(equation)))


def _erfc(graph, equation, x):
    return graph.add("Sub", graph.constant(1, _dtype(equation)), graph.add("Erf", x))


def _reduce(op: str):
    def rule(graph: Graph, equation: Any, x: str) -> str:
        axes = graph.constant(equation.params["axes"], np.int64)
        return graph.add(op, x, axes, keepdims=0)

    return rule


def _reduce_bools(op: str):
    def rule(graph: Graph, equation: Any, x: str) -> str:
        return _cast(graph, _reduce(op)(graph, equation, _cast(graph, x, np.int32)), bool)

    return rule


def _argmax(graph, equation, x):
    (axis,) = equation.params["axes"]
    x = _cast(graph, x, np.int32) if _is_bool(equation) else x
    return _cast(graph, graph.add("ArgMax", x, axis=axis, keepdims=0), equation.params["index_dtype"])


def _dot_general(graph, equation, x, y):
    (contracted, others), (batch, other_batch) = equation.params["dimension_numbers"]
    left, right = (atom.aval for atom in equation.invars)
    if right.ndim == 2 and not batch and len(contracted) == 1 and contracted[0] == left.ndim - 1:
        y = graph.add("Transpose", y, perm=[1, 0]) if others[0] == 1 else y
        return graph.add("MatMul", x, y)
    letters = iter(string.ascii_lowercase)
    of_left = [next(letters) for _ in range(left.ndim)]
    of_right = [next(letters) for _ in range(right.ndim)]
    for here, there in (*zip(contracted, others, strict=True), *zip(batch, other_batch, strict=True)):
        of_right[there] = of_left[here]
    free = [of_left[i] for i in range(left.ndim) if i not in (*contracted, *batch)]
    free += [of_right[i] for i in range(right.ndim) if i not in (*others, *other_batch)]
    result = [of_left[i] for i in batch] + free
    return graph.add("Einsum", x, y, equation=f"{''.join(of_left)},{''.join(of_right)}->{''.join(result)}")


def _convolution(graph, equation, x, kernel):
    params = equation.params
    if any(size != 1 for size in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise NotImplementedError("a transposed convolution")
    numbers, padding = params["dimension_numbers"], params["padding"]
    found = graph.add(
        "Conv",
        graph.add("Transpose", x, perm=list(numbers.lhs_spec)),
        graph.add("Transpose", kernel, perm=list(numbers.rhs_spec)),
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        pads=[low for low, _ in padding] + [high for _, high in padding],
        group=params["feature_group_count"],
    )
    return graph.add("Transpose", found, perm=[int(axis) for axis in np.argsort(numbers.out_spec)])


def _max_pool(graph, equation, x):
    params = equation.params
    window, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
    dilated = any(size != 1 for size in (*params["base_dilation"], *params["window_dilation"]))
    if len(window) != 4 or window[0] != 1 or window[3] != 1 or dilated or any(padding[0]) or any(padding[3]):
        raise NotImplementedError("a window that is not one of pictures [B, H, W, C]")
    found = graph.add(
        "MaxPool",
        graph.add("Transpose", x, perm=[0, 3, 1, 2]),
        kernel_shape=list(window[1:3]),
        strides=list(strides[1:3]),
        pads=[padding[1][0], padding[2][0], padding[1][1], padding[2][1]],
    )
    return graph.add("Transpose", found, perm=[0, 2, 3, 1])


RULES: dict[str, Callable] = {
    **{
        name: _named(op)
        for name, op in {
            "abs": "Abs", "add": "Add", "add_any": "Add", "ceil": "Ceil", "cos": "Cos", "div": "Div", "eq": "Equal",
            "erf": "Erf", "exp": "Exp", "floor": "Floor", "ge": "GreaterOrEqual", "gt": "Greater",
            "le": "LessOrEqual", "log": "Log", "logistic": "Sigmoid", "lt": "Less", "max": "Max", "min": "Min",
            "mul": "Mul", "neg": "Neg", "pow": "Pow", "sign": "Sign", "sin": "Sin", "sqrt": "Sqrt", "sub": "Sub",
            "tanh": "Tanh",
        }.items()
    },
    **{name: _same for name in ("stop_gradient", "copy", "copy_p", "optimization_barrier")},
    "and": _by_kind("And", "BitwiseAnd"),
    "or": _by_kind("Or", "BitwiseOr"),
    "not": _by_kind("Not", "BitwiseNot"),
    "ne": _ne,
    "rem": _rem,
    "convert_element_type": _convert,
    "is_finite": _is_finite,
    "select_n": _select,
    "clamp": _clamp,
    "integer_pow": _integer_pow,
    "square": _square,
    "rsqrt": _rsqrt,
    "log1p": _log1p,
    "expm1": _expm1,
    "erfc": _erfc,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_or": _reduce_bools("ReduceMax"),
    "reduce_and": _reduce_bools("ReduceMin"),
    "argmax": _argmax,
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "reduce_window_max": _max_pool,
}  # fmt: skip
