"""From a jaxpr to nodes: calls are written out, and each operation is looked up in the tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from mhe_jax.export.onnx import arithmetic, indexing, loops, shapes
from mhe_jax.export.onnx.graph import Graph

_RULES: dict[str, Callable] = {**arithmetic.RULES, **shapes.RULES, **indexing.RULES}
# Where the inner program of a call is kept.
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def model_of(function: Callable, weights: Any, inputs: Mapping[str, jax.ShapeDtypeStruct]) -> Any:
    """The ONNX model of `function(weights, inputs) -> outputs by name`; weights are its initializers, by their path.

    Raises:
      NotImplementedError: naming the operation that there is no rule for.
    """
    traced = jax.jit(function).trace(jax.tree.map(_abstract, weights), dict(inputs))
    graph = Graph()
    arguments = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        name = "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
        arguments.append(graph.constant(np.ascontiguousarray(leaf), name=name))
    named = sorted(inputs)  # as JAX orders the keys of a dict
    for name in named:
        for axis, size in enumerate(inputs[name].shape):
            if (text := str(size)).isidentifier() and text not in graph.sizes:
                graph.sizes[text] = graph.add("Shape", name, start=axis, end=axis + 1)
    closed = traced.jaxpr
    results = converted(graph, closed, [*arguments, *named])
    # Leaves of a dict come in the order of its names too.
    outputs = dict(zip(sorted(traced.out_info), results, strict=True))
    for name, result in outputs.items():
        graph.nodes.append(graph.onnx.helper.make_node("Identity", [result], [name]))
        graph.used.add(result)
    helper = graph.onnx.helper
    made = helper.make_graph(
        graph.nodes,
        "mhe_jax",
        [graph.value(name, inputs[name]) for name in named],
        [graph.value(name, traced.out_info[name]) for name in outputs],
        [
            graph.onnx.numpy_helper.from_array(array, name)
            for name, array in graph.constants.items()
            if name in graph.used
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", graph.opset)], ir_version=9)


def converted(graph: Graph, closed: ClosedJaxpr, arguments: Sequence[str]) -> list[str]:
    """Adds the nodes of a jaxpr for the values of its inputs, and returns those of its outputs."""
    values = dict(zip(closed.jaxpr.invars, arguments, strict=True))
    values |= {
        variable: graph.constant(np.asarray(array))
        for variable, array in zip(closed.jaxpr.constvars, closed.consts, strict=True)
    }

    def read(atom: Any) -> str:
        if not isinstance(atom, Literal):
            return values[atom]
        aval: Any = atom.aval
        return graph.constant(atom.val, aval.dtype)

    for equation in closed.jaxpr.eqns:
        names, name = [read(atom) for atom in equation.invars], equation.primitive.name
        inner = next((equation.params[key] for key in _INNER if key in equation.params), None)
        if name in loops.RULES:
            found = loops.RULES[name](graph, equation, names, converted)
        elif name in _RULES:
            found = _RULES[name](graph, equation, *names)
        elif name == "cond":
            found = _converted_branch(graph, equation, names)
        elif inner is not None:
            inner = inner if hasattr(inner, "consts") else ClosedJaxpr(inner, ())
            found = converted(graph, inner, names)
        else:
            raise NotImplementedError(f"the operation {name}")
        found = [found] if isinstance(found, str) else found
        values |= dict(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _converted_branch(graph: Graph, equation: Any, names: Sequence[str]) -> list[str]:
    """Of the branches of `jax.lax.platform_dependent`, the last one, which is for all other platforms."""
    if not equation.params.get("branches_platforms"):
        raise NotImplementedError("the operation cond")
    return converted(graph, equation.params["branches"][-1], names[1:])


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
