"""Pickles from the network read as data: a machine that knows plain values and numpy arrays, and calls nothing.

The standard library's unpickler will not do, however few names it may look up: numpy's own `__setstate__` takes a dtype
of objects whose flags a file has cleared and follows the array's bytes as pointers, BUILD sets attributes, and the
memo grows to whatever place a file names. Here a name stands for a rule of `_CALLS` that keeps bytes, the memo is a
dict, and each step takes memory in proportion to the bytes of the file that ask for it.
"""

import codecs
import dataclasses
import io
import math
import pickletools
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

_OPERATIONS = {operation.code: operation for operation in pickletools.opcodes}
_MOST = 1 << 22  # operations: the published files have a tenth, and an operation of one byte can take a hundred
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# Their argument is the value.
_VALUES = re.compile(
    r"INT|(BIN)?FLOAT|BININT[12]?|LONG1|(SHORT_)?BINBYTES|BINBYTES8|BYTEARRAY8|UNICODE|(SHORT_)?BINUNICODE8?"
)
_PUTS, _GETS = frozenset(("PUT", "BINPUT", "LONG_BINPUT")), frozenset(("GET", "BINGET", "LONG_BINGET"))
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class PickleError(ValueError):
    """A pickle that is damaged, or that holds or does anything but what data is written with."""


@dataclasses.dataclass
class Dtype:
    """Stands for a numpy dtype: its name, like `u1`, and the order of its bytes."""

    name: str = ""
    order: str = "="


@dataclasses.dataclass
class Array:
    """Stands for a numpy array: its bytes, or the list of an array of objects."""

    dtype: Any = None
    content: Any = b""
    shape: Any = ()
    fortran: Any = False

    @property
    def is_of_numbers(self) -> bool:
        return _NUMBERS.fullmatch(self._kind) is not None and self.dtype.order in ("<", ">", "|", "=")

    @property
    def _kind(self) -> str:
        return self.dtype.name if isinstance(self.dtype, Dtype) else ""

    def numbers(self) -> np.ndarray:
        """The array, if it is one of numbers; PickleError otherwise, or if its bytes do not fill its shape."""
        if not self.is_of_numbers:
            raise PickleError(f"an array is of {self._kind[:20]!r}, not of numbers")
        if not (isinstance(self.shape, tuple) and all(type(side) is int and side >= 0 for side in self.shape)):
            raise PickleError("an array's shape is not one of numbers from 0")
        dtype = np.dtype(self._kind).newbyteorder(self.dtype.order)
        if not isinstance(self.content, bytes | bytearray):
            raise PickleError("an array's content is not bytes")
        if len(self.content) != math.prod(self.shape) * dtype.itemsize:
            raise PickleError(f"an array of {len(self.content)} bytes cannot have the shape that it is given")
        return np.frombuffer(self.content, dtype).reshape(self.shape, order="F" if self.fortran else "C")


def loads(data: bytes) -> Any:
    """What a pickle holds: None, truth values, numbers, bytes, str, tuples, lists, dicts and `Array`.

    Strings of Python 2 are bytes. Keys of a dict are str, bytes or whole numbers.

    Raises:
      PickleError: for a pickle that is cut or damaged, or has an operation, a name or a call of anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of odd escapes in a damaged string
            return _Machine(data).run()
    except PickleError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        raise PickleError(" ".join(str(error).split())[:200] or type(error).__name__) from error


class _Machine:
    def __init__(self, data: bytes):
        self._file = io.BytesIO(data)
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._encoded: dict[str, bytes] = {}

    def run(self) -> Any:
        for _ in range(_MOST):
            position = self._file.tell()
            code = self._file.read(1).decode("latin-1")
            if not code:
                raise PickleError(f"it is not complete, but ends at byte {position}")
            operation = _OPERATIONS.get(code)
            name = operation.name if operation else repr(code)
            if name == "STOP":
                return self._stack.pop()
            if operation is None or not self._step(name, operation):
                raise PickleError(f"the operation {name} at byte {position} is refused")
        raise PickleError(f"it has more than {_MOST} operations")

    def _step(self, name: str, operation: pickletools.OpcodeInfo) -> bool:
        """Does an operation; False if it is none that data is written with."""
        if name == "STRING":  # for pickletools these are ASCII
            self._push(_unquoted(self._file.readline()))
            return True
        argument: Any = operation.arg.reader(self._file) if operation.arg else None
        if _VALUES.fullmatch(name):
            self._push(argument)
        elif name in ("BINSTRING", "SHORT_BINSTRING"):
            self._push(argument.encode("latin-1"))
        elif name in _CONSTANTS:
            self._push(_CONSTANTS[name])
        elif name in _PUTS or name == "MEMOIZE":
            self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]
        elif name in _GETS:
            self._push(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name in _TUPLES:
            self._push(tuple(self._pop(_TUPLES[name])))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._push(_named(*(argument.split(" ", 1) if argument else self._pop(2))))
        elif name in ("REDUCE", "BUILD"):
            target, value = self._pop(2)
            self._push(self._called(target, value) if name == "REDUCE" else _built(target, value))
        elif name in ("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT"):
            self._push({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}[name]())
        elif name in ("TUPLE", "LIST", "DICT"):
            items = self._since_mark()
            self._push(tuple(items) if name == "TUPLE" else items if name == "LIST" else _items({}, items))
        elif name in ("APPEND", "APPENDS"):
            self._container(list, name == "APPENDS", 1, list.extend)
        elif name in ("SETITEM", "SETITEMS"):
            self._container(dict, name == "SETITEMS", 2, _items)
        else:
            return name in ("PROTO", "FRAME")
        return True

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise PickleError("an operation finds too few values")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _since_mark(self) -> list[Any]:
        begin = self._marks.pop()
        values = self._stack[begin:]
        del self._stack[begin:]
        return values

    def _container(self, kind: type, many: bool, count: int, put: Any) -> None:
        """Puts the values since the mark, or the last `count`, into the list or dict before them."""
        values = self._since_mark() if many else self._pop(count)
        if type(self._stack[-1]) is not kind:
            raise PickleError(f"it puts values into a {type(self._stack[-1]).__name__}, not a {kind.__name__}")
        put(self._stack[-1], values)

    def _called(self, target: Any, arguments: Any) -> Any:
        if not isinstance(target, _Name) or type(arguments) is not tuple:
            raise PickleError("it calls something that has no name")
        if target.name == "encode":  # how Python 3 writes bytes for Python 2
            text, encoding = arguments
            if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
                raise PickleError("it encodes text by another encoding than latin1")
            # A text is encoded once, or a short pickle could fill the memory.
            return self._encoded.setdefault(text, self._encoded.get(text) or text.encode("latin-1"))
        if target.name not in _CALLS:
            raise PickleError(f"it calls {target.name}")
        return _CALLS[target.name](*arguments)


@dataclasses.dataclass(frozen=True)
class _Name:
    """What a pickle of numpy arrays refers to."""

    name: str


_NAMES = {
    ("numpy", "ndarray"),  # an argument of _reconstruct
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


def _named(module: Any, name: Any) -> _Name:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise PickleError("it refers to something by a name that is no text")
    if (module.replace("numpy._core", "numpy.core"), name) not in _NAMES:
        raise PickleError(f"it refers to {module[:80]}.{name[:80]}, which is neither a plain value nor an array")
    return _Name(name)


def _dtype(name: Any, *_: Any) -> Dtype:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    if not isinstance(text, str):
        raise PickleError("the name of a dtype is no text")
    return Dtype(text)


def _scalar(dtype: Any, content: Any) -> Any:
    return Array(dtype, content).numbers().item()


_CALLS: dict[str, Callable[..., Any]] = {
    "dtype": _dtype,
    "_reconstruct": lambda *_: Array(),
    "scalar": _scalar,
    "_frombuffer": lambda content, dtype, shape, order: Array(dtype, content, shape, order == "F"),
}


def _built(target: Any, state: Any) -> Any:
    """The state that numpy gives an array, (version, shape, dtype, whether Fortran's order, content), or a dtype."""
    if isinstance(target, Array):
        _, target.shape, target.dtype, target.fortran, target.content = state
    elif isinstance(target, Dtype):
        order = state[1]
        target.order = order.decode("latin-1") if isinstance(order, bytes) else order
    else:
        raise PickleError(f"it sets the state of a {type(target).__name__}")
    return target


def _items(into: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """Puts keys and values that lie by turns into a dict."""
    for key in items[::2]:
        # The hash of tuples in tuples is a recursion that a file could make as deep as it likes.
        if not isinstance(key, str | bytes | int):
            raise PickleError(f"a key is a {type(key).__name__}, not text or a number")
    into.update(zip(items[::2], items[1::2], strict=True))
    return into


def _unquoted(line: bytes) -> bytes:
    """A string of protocol 0, as Python 2 quoted it."""
    text = line.strip()
    if not line.endswith(b"\n") or len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise PickleError("a string is not between quotes")
    return codecs.escape_decode(text[1:-1])[0]  # type: ignore[attr-defined]
