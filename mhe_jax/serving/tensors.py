"""Tensors of the Open Inference Protocol, version 2: as numbers in JSON, or as bytes behind it.

Source: the protocol of KServe, https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, and
its extension for binary tensor data, which Triton and its clients speak.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mhe_jax.serving.refused import Refused

DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_LENGTH = 4  # bytes that say how long an element of BYTES is
_DIGITS = 18  # of a number of bytes
_AXES = 8  # of a tensor
# Types of JSON by the kind of dtype that they are for: NumPy alone would make 1.7 and "3" whole numbers.
_NUMBERS: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}


def parse(body: bytes, header_length: str | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The request's object, and its inputs by name: arrays, those of BYTES of Python's bytes or str.

    Args:
      body: JSON, and behind it the tensors whose `binary_data_size` says how much of it is theirs.
      header_length: of the JSON, from the header `Inference-Header-Content-Length`; None where all is JSON.

    Raises:
      Refused: 400, naming what is wrong.
    """
    end = len(body)
    if header_length is not None:
        number = header_length if header_length.isascii() and header_length.isdigit() else ""
        if not 0 < len(number) <= _DIGITS or int(number) > end:
            raise _bad("Inference-Header-Content-Length is not the length of the JSON at the beginning")
        end = int(number)
    try:
        request = json.loads(body[:end])
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    listed = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(listed, list) or not listed:
        raise _bad("`inputs` must be a list of tensors")
    if not isinstance(request.get("parameters") or {}, dict) or not isinstance(request.get("id") or "", str):
        raise _bad("`parameters` must be an object and `id` a string")
    tensors: dict[str, np.ndarray] = {}
    for place, one in enumerate(listed):
        where = f"inputs[{place}]"
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise _bad(f"{where} must be a tensor with a name")
        if one["name"] in tensors:
            raise _bad(f"{where}: there is a tensor {one['name']!r} before it")
        size = _parameter(one, "binary_data_size", where)
        if size is None:
            tensors[one["name"]] = _of_json(one, where)
        else:
            if type(size) is not int or not 0 <= size <= len(body) - end:
                raise _bad(f"{where}: there are no {size} bytes of binary data")
            tensors[one["name"]] = _of_bytes(one, body[end : end + size], where)
            end += size
    if end != len(body):
        raise _bad(f"{len(body) - end} bytes at the end belong to no tensor")
    return request, tensors


def build(answer: dict[str, Any], tensors: dict[str, np.ndarray], binary: Sequence[str]) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where something follows it.

    Args:
      answer: the object, without `outputs`.
      tensors: the outputs; those of BYTES are arrays of str.
      binary: names of those whose numbers follow as bytes.
    """
    outputs, parts = [], []
    for name, array in tensors.items():
        one: dict[str, Any] = {"name": name, "datatype": _datatype(array), "shape": list(array.shape)}
        if name in binary:
            parts.append(_as_bytes(array))
            one["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            one["data"] = array.reshape(-1).tolist()
        outputs.append(one)
    head = json.dumps({**answer, "outputs": outputs}).encode()
    return b"".join([head, *parts]), len(head) if parts else None


def wanted(request: dict[str, Any], offered: Sequence[str]) -> tuple[list[str], list[str]]:
    """(names of the outputs that are asked for, those of them in binary); raises Refused, 400, for others."""
    everything = _parameter(request, "binary_data_output", "the request") is True
    listed = request.get("outputs")
    if listed is None or listed == []:
        return list(offered), list(offered) if everything else []
    if not isinstance(listed, list):
        raise _bad("`outputs` must be a list of tensors")
    names: list[str] = []
    binary: list[str] = []
    for place, one in enumerate(listed):
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str) or name not in offered:
            raise _bad(f"outputs[{place}] must be one of {', '.join(offered)}")
        names.append(name)
        told = _parameter(one, "binary_data", f"outputs[{place}]")
        if told is True or (told is None and everything):
            binary.append(name)
    return names, binary


def _shape(one: dict, where: str) -> tuple[int, ...]:
    shape = one.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise _bad(f"{where}: shape must be a list of sizes")
    if len(shape) > _AXES:
        raise _bad(f"{where}: shape has {len(shape)} sizes; there may be {_AXES}")
    return tuple(shape)


def _of_json(one: dict, where: str) -> np.ndarray:
    shape, datatype, data = _shape(one, where), one.get("datatype"), one.get("data")
    if not isinstance(data, list):
        raise _bad(f"{where}: data must be a list")
    if datatype == "BYTES":
        flat = _flat(data, where)
        if not all(isinstance(text, str) for text in flat):
            raise _bad(f"{where}: data must be strings")
        return _shaped(np.array([*flat, None], object)[:-1], shape, where)
    dtype, flat = np.dtype(_dtype(datatype, where)), _flat(data, where)
    try:
        if not set(map(type, flat)) <= _NUMBERS[dtype.kind]:
            raise TypeError
        with np.errstate(over="ignore"):
            array: np.ndarray = np.asarray(flat, dtype)
    except (TypeError, OverflowError):
        raise _bad(f"{where}: data must be numbers of {datatype}") from None
    return _shaped(array, shape, where)


def _flat(data: list, where: str) -> list:
    """Nested lists, which the protocol allows beside flat ones, made flat."""
    depth = 0
    while data and isinstance(data[0], list):
        depth += 1
        if depth > 8 or not all(isinstance(row, list) for row in data):
            raise _bad(f"{where}: data is nested unevenly")
        data = [value for row in data for value in row]
    return data


def _of_bytes(one: dict, content: bytes, where: str) -> np.ndarray:
    shape, datatype = _shape(one, where), one.get("datatype")
    if datatype == "BYTES":
        found, place = [], 0
        while place < len(content):
            end = place + _LENGTH + int.from_bytes(content[place : place + _LENGTH], "little")
            if end > len(content) or len(content) - place < _LENGTH:
                raise _bad(f"{where}: an element is longer than the data")
            found.append(content[place + _LENGTH : end])
            place = end
        return _shaped(np.array([*found, None], object)[:-1], shape, where)
    dtype = np.dtype(_dtype(datatype, where)).newbyteorder("<")
    if len(content) % dtype.itemsize:
        raise _bad(f"{where}: {len(content)} bytes are not whole numbers of {datatype}")
    return _shaped(np.frombuffer(content, dtype), shape, where)


def _shaped(array: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    if array.size != math.prod(shape):
        raise _bad(f"{where} has {array.size} elements; its shape {list(shape)} has {math.prod(shape)}")
    try:
        return array.reshape(shape)
    except ValueError:  # without elements, and too large for NumPy all the same
        raise _bad(f"{where}: the shape {list(shape)} is too large") from None


def _as_bytes(array: np.ndarray) -> bytes:
    if array.dtype == object:
        texts = (text.encode("utf-8", "replace") for text in array.reshape(-1))
        return b"".join(len(text).to_bytes(_LENGTH, "little") + text for text in texts)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _dtype(datatype: Any, where: str) -> type:
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise _bad(f"{where}: datatype must be BYTES or one of {', '.join(DTYPES)}")
    return DTYPES[datatype]


def _datatype(array: np.ndarray) -> str:
    return next((name for name, dtype in DTYPES.items() if array.dtype == dtype), "BYTES")


def _parameter(one: dict, name: str, where: str) -> Any:
    parameters = one.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _bad(f"{where}: parameters must be an object")
    return parameters.get(name)


def _bad(reason: str) -> Refused:
    return Refused(400, reason)
