"""Verification sets as insightface shares them (lfw.bin, cfp_fp.bin, agedb_30.bin): a pickle of pictures and pairs.

The pickle is (list of 2 P encoded pictures, list of P truth values); pictures 2 i and 2 i + 1 are pair i. Such files
come from the network and are read as data: see `mhe_jax.data.pickles`.
"""

import pathlib
import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mhe_jax.data import pickles
from mhe_jax.data.dataset import DataError
from mhe_jax.data.files import require_file


def read_bin(path: str | pathlib.Path) -> tuple[list[bytes], np.ndarray]:
    """Reads a verification set; pickles of Python 2 and 3, with pictures as bytes or as uint8 arrays.

    Returns:
      2 P encoded pictures, of which 2 i and 2 i + 1 are pair i, and bool [P], whether a pair shows one identity.

    Raises:
      DataError: naming the file, if it is anything else.
    """
    file = pathlib.Path(path).expanduser()
    require_file(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        content = pickles.loads(data)
        if not isinstance(content, (tuple, list)) or len(content) != 2:
            raise DataError(f"{path}: holds {_kind(content)}; a verification set is (pictures, truth values)")
        encoded, same = (_listed(part) for part in content)
    except pickles.PickleError as error:
        raise DataError(f"{path}: not a verification set, or a damaged one: {error}") from error
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


def _listed(part: Any) -> Any:
    """The list that an array of truth values, of numbers or of objects holds; anything else as it is."""
    if not isinstance(part, pickles.Array):
        return part
    return part.content if isinstance(part.content, list) else part.numbers().ravel().tolist()


def _pictures(encoded: Sequence[Any], path: str | pathlib.Path) -> list[bytes]:
    """The bytes of each picture; a picture that is in the list many times is copied once."""
    once: dict[int, bytes] = {}
    for number, item in enumerate(encoded):
        if id(item) in once:
            continue
        content = item
        if isinstance(item, pickles.Array) and isinstance(item.dtype, pickles.Dtype) and item.dtype.name == "u1":
            content = item.content
        if not isinstance(content, (bytes, bytearray)):
            raise DataError(f"{path}: picture {number} is {_kind(item)}; it must be bytes")
        once[id(item)] = bytes(content)
    return [once[id(item)] for item in encoded]


def _kind(value: Any) -> str:
    if isinstance(value, pickles.Array):
        return "a numpy array"
    return f"a {type(value).__name__}" if not isinstance(value, (int, str)) else repr(value)[:50]
