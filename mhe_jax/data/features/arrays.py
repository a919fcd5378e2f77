"""Matrices of features on disk: mapped into memory, and looked at in blocks; no file is ever held whole."""

import pathlib

import ml_dtypes
import numpy as np
import tqdm

from mhe_jax.data.dataset import DataError
from mhe_jax.data.features.tensors import mapped_tensor
from mhe_jax.data.files import mapped_array

FILE = "features.npy"
DTYPES = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16))
_BLOCK = 16 << 20  # bytes that are looked at together


def open_features(path: pathlib.Path, width: int = 0) -> np.ndarray:
    """The features of a .npy or .safetensors file, [N, D], mapped into memory: rows are read where they are used.

    Args:
      path: the file, of float16 or float32; a .safetensors may be of bfloat16, too, and holds one tensor.
      width: D, where it is known.

    Raises:
      DataError: naming the file, if it holds no row, or anything else than such a matrix.
    """
    found = mapped_tensor(path) if path.suffix == ".safetensors" else mapped_array(path)
    if found.ndim != 2 or found.dtype not in DTYPES:
        raise DataError(
            f"{path} holds {found.dtype} {list(found.shape)}; features must be float16 or float32 [N, D] of this "
            "machine's byte order"
        )
    if not found.size:
        raise DataError(
            f"{path} has {found.shape[0]} rows of {found.shape[1]} features; at least one of each is needed"
        )
    if not found.flags.c_contiguous:
        raise DataError(
            f"{path} is in Fortran order, in which no row can be read by itself: save np.ascontiguousarray(features)"
        )
    if width and found.shape[1] != width:
        raise DataError(
            f"{path} has {found.shape[1]} features a row, but {width} are expected (config.data.features_dim)"
        )
    return np.asarray(found)


def not_finite(features: np.ndarray) -> np.ndarray:
    """bool [N]: rows of features [N, D] that hold a NaN or an infinity."""
    finite = np.isfinite(features)
    return np.zeros(len(features), bool) if finite.all() else ~finite.all(axis=1)


def require_finite(path: pathlib.Path, features: np.ndarray) -> None:
    """Raises DataError, naming the first row, if features [N, D] hold a NaN or an infinity; reads them in blocks."""
    rows = max(_BLOCK // features[0].nbytes, 1)
    with tqdm.tqdm(total=len(features), desc=f"checking {path}", unit=" rows", disable=None, leave=False) as bar:
        for start in range(0, len(features), rows):
            block = features[start : start + rows]
            bad = not_finite(block)
            if bad.any():
                row = start + int(bad.argmax())
                raise DataError(f"{path}: row {row} holds a NaN or an infinity: leave it out, or make it again")
            bar.update(len(block))
