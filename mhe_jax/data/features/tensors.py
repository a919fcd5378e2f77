"""Matrices in safetensors files, mapped into memory."""

import json
import pathlib

import ml_dtypes
import numpy as np
import safetensors

from mhe_jax.data.dataset import DataError
from mhe_jax.data.files import require_file

# By the format's names; it is little-endian.
_TYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "BF16": np.dtype(ml_dtypes.bfloat16)}


def mapped_tensor(path: pathlib.Path) -> np.ndarray:
    """The only tensor of a .safetensors file, float16, bfloat16 or float32, mapped into memory.

    Raises:
      DataError: naming the file, if it is damaged, or holds anything else.
    """
    require_file(path)
    try:
        # The library checks the header, and that the file is as long as that says; what it gives are copies.
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
        with path.open("rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
            header = json.loads(raw.read(size))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable safetensors file: {' '.join(str(error).split())}") from error
    if len(names) != 1:
        raise DataError(
            f"{path} holds {len(names)} tensors ({', '.join(sorted(names)[:4])}); one is needed, features [N, D]"
        )
    facts = header[names[0]]
    dtype, shape = _TYPES.get(facts["dtype"]), tuple(facts["shape"])
    if dtype is None:
        raise DataError(f"{path} holds {facts['dtype']} {list(shape)}; features must be F16, BF16 or F32 [N, D]")
    if 0 in shape or not shape:
        return np.zeros(shape, dtype)  # which cannot be mapped
    return np.memmap(path, dtype, "r", 8 + size + facts["data_offsets"][0], shape)
