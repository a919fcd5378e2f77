"""Loops: `jax.lax.scan` and `jax.lax.while_loop` as ONNX's Loop, whose body sees the names around it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mhe_jax.export.onnx.graph import Graph

_COUNT, _FLAG = jax.ShapeDtypeStruct((), np.int64), jax.ShapeDtypeStruct((), np.bool_)


def _scan(graph: Graph, equation: Any, names: Sequence[str], converted: Callable) -> list[str]:
    params = equation.params
    if params["reverse"]:
        raise NotImplementedError("a scan from the end")
    closed = params["jaxpr"]
    if "ft_in" in params:  # since JAX 0.12
        split, num_carry, _ = map(len, params["ft_in"].unpack())
    else:
        split, num_carry = params["num_consts"], params["num_carry"]
    end = split + num_carry
    fixed, carried, rows = names[:split], names[split:end], names[end:]
    step, flag = graph.name("step"), graph.name("flag")
    inside = [graph.name("carry") for _ in carried]
    with graph.body() as nodes:
        of_step = [graph.add("Gather", row, step, axis=0) for row in rows]
        found = converted(graph, closed, [*fixed, *inside, *of_step])
        results = [graph.add("Identity", name) for name in (flag, *found)]
    avals = [variable.aval for variable in closed.jaxpr.outvars]
    inputs = {step: _COUNT, flag: _FLAG, **dict(zip(inside, avals, strict=False))}
    body = graph.subgraph(nodes, inputs, list(zip(results, [_FLAG, *avals], strict=True)))
    count = graph.constant(params["length"], np.int64)
    return _loop(graph, count, graph.constant(True), carried, body, len(avals))


def _while(graph: Graph, equation: Any, names: Sequence[str], converted: Callable) -> list[str]:
    params = equation.params
    split, end = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    of_test, of_body, carried = names[:split], names[split:end], names[end:]
    test, closed = params["cond_jaxpr"], params["body_jaxpr"]
    (first,) = converted(graph, test, [*of_test, *carried])
    step, flag = graph.name("step"), graph.name("flag")
    inside = [graph.name("carry") for _ in carried]
    with graph.body() as nodes:
        found = converted(graph, closed, [*of_body, *inside])
        again = converted(graph, test, [*of_test, *found])
        results = [graph.add("Identity", name) for name in (*again, *found)]
    avals = [variable.aval for variable in closed.jaxpr.outvars]
    inputs = {step: _COUNT, flag: _FLAG, **dict(zip(inside, avals, strict=True))}
    body = graph.subgraph(nodes, inputs, list(zip(results, [_FLAG, *avals], strict=True)))
    return _loop(graph, "", first, carried, body, len(avals))


def _loop(graph: Graph, count: str, flag: str, carried: Sequence[str], body: Any, outputs: int) -> list[str]:
    found = graph.add("Loop", count, flag, *carried, outputs=outputs, body=body)
    return [found] if outputs == 1 else found


RULES = {"scan": _scan, "while": _while}
