"""A graph under construction: nodes, constants, and shapes that are known when the program runs."""

import ast
import contextlib
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax import export

_BINARY = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}


class Graph:
    """ONNX nodes in the order in which they are computed; values are names.

    Attributes:
      opset: of the standard operators.
      nodes: of the innermost graph: bodies of loops are graphs inside graphs, which see the names around them.
      constants: initializers by name, of the outermost graph.
      used: names that are inputs of nodes.
    """

    opset = 18

    def __init__(self) -> None:
        import onnx  # an extra, and slow to import

        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.used: set[str] = set()
        self.sizes: dict[str, str] = {}  # values int64 [1] of symbolic dimensions by their names
        self._known: dict[tuple, str] = {}
        self._scopes: list[dict[str, str]] = [self.sizes]
        self._count = 0

    def name(self, hint: str) -> str:
        """A name that no other value has."""
        self._count += 1
        return f"{hint}_{self._count}"

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node and returns the name of its output, or of several the list."""
        names = [self.name(op) for _ in range(outputs)]
        self.used.update(inputs)
        self.nodes.append(self.onnx.helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, dtype: Any = None, name: str = "") -> str:
        """The name of an array that is the same in every call; equal small ones are kept once."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 64 and not name else None
        if key in self._known:
            return self._known[key]
        name = name or self.name("constant")
        self.constants[name] = array
        if key:
            self._known[key] = name
        return name

    def shape(self, sizes: Sequence[Any]) -> str:
        """int64 [len(sizes)] of sizes that are numbers or symbolic, see `jax.export.symbolic_shape`."""
        if not any(map(export.is_symbolic_dim, sizes)):
            return self.constant(list(sizes), np.int64)
        return self.add("Concat", *map(self.size, sizes), axis=0)

    def size(self, size: Any) -> str:
        """int64 [1] of one such size."""
        if not export.is_symbolic_dim(size):
            return self.constant([size], np.int64)
        text = str(size)
        for scope in self._scopes:
            if text in scope:
                return scope[text]
        found = self._scopes[-1][text] = self._expression(ast.parse(text, mode="eval").body, text)
        return found

    def _expression(self, node: ast.expr, text: str) -> str:
        """int64 [1] of a polynomial as JAX writes it: 2*batch + length - 1."""
        match node:
            case ast.Constant(value=int(value)):
                return self.constant([value], np.int64)
            case ast.Name(id=name) if name in self.sizes:
                return self.sizes[name]
            case ast.BinOp(left, ast.Pow(), ast.Constant(value=int(value))):
                return self.add("Pow", self._expression(left, text), self.constant([value], np.int64))
            case ast.BinOp(left, op, right) if type(op) in _BINARY:
                return self.add(_BINARY[type(op)], self._expression(left, text), self._expression(right, text))
            case ast.UnaryOp(ast.USub(), operand):
                return self.add("Neg", self._expression(operand, text))
            case ast.Call(func=ast.Name(id="max" | "min" as name), args=arguments):
                return self.add(name.title(), *(self._expression(one, text) for one in arguments))
        raise NotImplementedError(f"a size of {text}")

    @contextlib.contextmanager
    def body(self) -> Iterator[list[Any]]:
        """Nodes that are added inside go to a list of their own, and sizes that are computed there stay there."""
        outside, self.nodes = self.nodes, []
        self._scopes.append({})
        try:
            yield self.nodes
        finally:
            self.nodes = outside
            self._scopes.pop()

    def subgraph(self, nodes: list[Any], inputs: Mapping[str, Any], outputs: Sequence[tuple[str, Any]]) -> Any:
        """A loop's body: values come in and go out with the dtypes and ranks of avals."""
        make, value = self.onnx.helper.make_graph, self.value
        return make(nodes, self.name("body"), [value(*one) for one in inputs.items()], [value(*one) for one in outputs])

    def value(self, name: str, aval: Any) -> Any:
        """What the graph says of an input or output: a symbolic size has its name there."""
        sizes = [str(size) if export.is_symbolic_dim(size) else operator.index(size) for size in aval.shape]
        return self.onnx.helper.make_tensor_value_info(name, self.dtype(aval.dtype), sizes)

    def dtype(self, dtype: Any) -> int:
        """ONNX's number of a dtype."""
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
