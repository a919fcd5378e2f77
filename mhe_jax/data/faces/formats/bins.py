"""Verification sets as insightface shares them (lfw.bin, cfp_fp.bin, agedb_30.bin): a pickle of pictures and pairs.

The pickle is (list of 2 P encoded pictures, list of P truth values); pictures 2 i and 2 i + 1 are pair i. Such files
come from the network, so a pickle may not name code: what a pickle of bytes or of numpy arrays refers to is replaced
by the few functions here, which only keep data, and every other name and unusual operation is refused.
"""

import io
import pathlib
import pickle
import pickletools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mhe_jax.data.dataset import DataError

# Everything that Python 2 and 3 write for tuples and lists of strings, numbers, truth values and numpy arrays. There is
# no operation that makes a dict, without which BUILD cannot set attributes.
_OPERATIONS = """
    PROTO FRAME STOP MARK POP POP_MARK LIST EMPTY_LIST APPEND APPENDS TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3
    PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG1
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 GLOBAL STACK_GLOBAL REDUCE BUILD
"""
# What the standard library's unpickler raises for damaged pickles of those operations.
_DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError, OverflowError)


def read_bin(path: str | pathlib.Path) -> tuple[list[bytes], np.ndarray]:
    """Reads a verification set; pickles of Python 2 and 3, with pictures as bytes or as uint8 arrays.

    Returns:
      2 P encoded pictures, of which 2 i and 2 i + 1 are pair i, and bool [P], whether a pair shows one identity.

    Raises:
      DataError: naming the file, if it is anything else.
    """
    try:
        data = pathlib.Path(path).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of odd escapes in a damaged string
            _check_operations(data)
            content = _Unpickler(io.BytesIO(data), encoding="bytes").load()  # strings of Python 2 are bytes
    except _DAMAGE as error:
        raise DataError(f"{path}: not a verification set, or a damaged one: {' '.join(str(error).split())}") from error
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise DataError(f"{path}: holds {_kind(content)}; a verification set is (pictures, truth values)")
    encoded, same = (part.items() if isinstance(part, _Array) else part for part in content)
    for part, name in ((encoded, "pictures"), (same, "truth values")):
        if not isinstance(part, (tuple, list)):
            raise DataError(f"{path}: the {name} are {_kind(part)}; they must be a list")
    if not same or len(encoded) != 2 * len(same):
        raise DataError(f"{path}: holds {len(encoded)} pictures and {len(same)} pairs; each pair has two pictures")
    for number, item in enumerate(same):
        if not isinstance(item, int) or item not in (0, 1):
            raise DataError(f"{path}: truth value {number} is {_kind(item)}; it must be True or False")
    return _pictures(encoded, path), np.array(same, bool)


def write_bin(path: str | pathlib.Path, encoded: Sequence[bytes], same: Iterable[bool]) -> None:
    """Writes a verification set that `read_bin` and insightface read; equal pictures are stored once.

    Raises:
      ValueError: unless there are two pictures for each pair, and at least one pair.
    """
    truths = [bool(item) for item in same]
    if not truths or len(encoded) != 2 * len(truths):
        raise ValueError(f"{len(encoded)} pictures do not make {len(truths)} pairs of two")
    once: dict[bytes, bytes] = {}
    pictures = [once.setdefault(picture, picture) for picture in encoded]
    with pathlib.Path(path).open("wb") as file:
        pickle.dump((pictures, truths), file, protocol=4)


def _check_operations(data: bytes) -> None:
    """Raises UnpicklingError for an operation, a length or a place in the memo that no verification set has.

    The unpickler reserves the memory that a length or a place announces; pickletools compares lengths with the data.
    """
    known = {operation.code: operation for operation in pickletools.opcodes}
    allowed, file, count, name = set(_OPERATIONS.split()), io.BytesIO(data), 0, ""
    while name != "STOP":
        position = file.tell()
        code = file.read(1).decode("latin-1")
        if not code:
            raise EOFError(f"it is not complete, but ends at byte {position}")
        operation = known.get(code)
        name = operation.name if operation else repr(code)
        if operation is None or name not in allowed:
            raise pickle.UnpicklingError(f"the operation {name} at byte {position} is refused")
        count += 1
        argument = None
        if name == "STRING":  # for pickletools these are ASCII
            file.readline()
        elif operation.arg is not None:
            argument = operation.arg.reader(file)
        if name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= count:
            raise pickle.UnpicklingError(f"place {argument} in the memo, at byte {position}, is refused")


class _Array:
    """Stands for a numpy array: a name of a dtype and its bytes, or the list of an object array."""

    __slots__ = ("content", "dtype")

    def __init__(self, dtype: Any = "", content: Any = b""):
        self.dtype, self.content = dtype, content

    def __setstate__(self, state: Any) -> None:
        _, _, self.dtype, _, self.content = state

    def items(self) -> Any:
        """The list that an array of truth values or of objects holds."""
        if isinstance(self.dtype, _Dtype) and self.dtype.name == "b1" and isinstance(self.content, (bytes, bytearray)):
            return [byte != 0 for byte in self.content]
        return self.content


class _Dtype:
    """Stands for a numpy dtype: its name, like u1."""

    __slots__ = ("name",)

    def __init__(self, name: Any, *_: Any):
        self.name = name.decode("latin-1") if isinstance(name, bytes) else name

    def __setstate__(self, state: Any) -> None:
        """The byte order, which bytes do not have."""


class _Unpickler(pickle.Unpickler):
    """Builds plain values, and `_Array` and `_Dtype` in place of numpy's."""

    def __init__(self, file: io.BytesIO, encoding: str):
        super().__init__(file, encoding=encoding)
        self._encoded: dict[str, bytes] = {}

    def find_class(self, module: str, name: str) -> Any:
        place = module.replace("numpy._core", "numpy.core"), name
        if place == ("_codecs", "encode"):
            return self._encode
        if place not in _STAND_INS:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is neither bytes nor an array")
        return _STAND_INS[place]

    def _encode(self, text: str, encoding: str | bytes) -> bytes:
        """How Python 3 writes bytes for Python 2. A text is encoded once, or a short pickle could fill the memory."""
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError("it encodes text by another encoding than latin1")
        return self._encoded.setdefault(text, self._encoded.get(text) or text.encode("latin-1"))


def _scalar(dtype: Any, content: Any) -> Any:
    items = _Array(dtype, content).items()
    if not isinstance(items, list) or len(items) != 1:
        raise pickle.UnpicklingError("it holds a number of numpy that is not a truth value")
    return items[0]


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): None,  # an argument of _reconstruct
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): lambda content, dtype, *_: _Array(dtype, content),
}


def _pictures(encoded: Sequence[Any], path: str | pathlib.Path) -> list[bytes]:
    """The bytes of each picture; a picture that is in the list many times is copied once."""
    once: dict[int, bytes] = {}
    for number, item in enumerate(encoded):
        if id(item) in once:
            continue
        content = item
        if isinstance(item, _Array) and isinstance(item.dtype, _Dtype) and item.dtype.name == "u1":
            content = item.content
        if not isinstance(content, (bytes, bytearray)):
            raise DataError(f"{path}: picture {number} is {_kind(item)}; it must be bytes")
        once[id(item)] = bytes(content)
    return [once[id(item)] for item in encoded]


def _kind(value: Any) -> str:
    if isinstance(value, _Array):
        return "a numpy array"
    return f"a {type(value).__name__}" if not isinstance(value, (int, str)) else repr(value)[:50]
