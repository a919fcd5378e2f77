"""Inputs of a request, as JSON or tensors carry them, to what a run takes: each is checked before it meets others.

Nothing here opens a file: a picture is its bytes.
"""

import base64
import binascii
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import BadExample
from mhe_jax.inference.run import Run
from mhe_jax.serving.refused import Refused
from mhe_jax.serving.schemas import SparseRow

_WANTED = {
    "texts": "a string",
    "pictures": "a string, the base64 of an encoded picture",
    "features": "a list of {width} numbers",
    "sparse": 'an object {{"indices": [...], "values": [...]}} with indices below {width}',
}


def read(run: Run, one: Any, where: str) -> Any:
    """An input as `stacked` takes it; of pictures see `picture_bytes` and `decoded`.

    Args:
      run: which is asked.
      one: a string, numbers as a list or an array, or a SparseRow.
      where: names it in the message.

    Raises:
      Refused: 422, naming the input.
    """
    return {"texts": _text, "features": _features, "sparse": _sparse}[run.kind](run, one, where)


def picture_bytes(run: Run, one: Any, where: str) -> bytes:
    """The file of a picture, of its base64 or as it is; raises Refused, 422, naming it."""
    if isinstance(one, str):
        # Pages send `data:image/png;base64,...`.
        content = one.rpartition(",")[2] if one.startswith("data:") else one
        try:
            one = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            raise Refused(422, f"{where} is not base64") from None
    return one if isinstance(one, bytes) else _not_wanted(run, one, where)


def decoded(run: Run, encoded: bytes, where: str) -> np.ndarray:
    """A picture as `stacked` takes it; raises Refused, 422, naming it."""
    try:
        return run.decode_image(encoded, where)
    except BadExample as error:
        raise Refused(422, str(error)) from None


def stacked(kind: str, items: list) -> Any:
    """What `Run.predict` and `Run.embed` take, of inputs that were read."""
    if kind == "texts":
        return items
    return scipy.sparse.vstack(items, format="csr") if kind == "sparse" else np.stack(items)


def _text(run: Run, one: Any, where: str) -> str:
    return one if isinstance(one, str) else _not_wanted(run, one, where)


def _features(run: Run, one: Any, where: str) -> np.ndarray:
    if not isinstance(one, list | np.ndarray) or len(one) != run.input_shape[0]:
        return _not_wanted(run, one, where)
    with np.errstate(over="ignore"):
        row = np.asarray(one, np.float32)
    if not np.isfinite(row).all():
        raise Refused(422, f"{where} holds a number that float32 has not")
    return row


def _sparse(run: Run, one: Any, where: str) -> scipy.sparse.csr_matrix:
    if not isinstance(one, SparseRow):
        return _not_wanted(run, one, where)
    if len(one.indices) != len(one.values):
        raise Refused(422, f"{where} has {len(one.indices)} indices and {len(one.values)} values")
    indices, values = np.asarray(one.indices, np.int64), np.asarray(one.values, np.float32)
    width = run.input_shape[0]
    if len(np.unique(indices)) != len(indices) or ((indices < 0) | (indices >= width)).any():
        raise Refused(422, f"{where} has an index twice, or one that is not in 0 .. {width - 1}")
    if not np.isfinite(values).all():
        raise Refused(422, f"{where} holds a value that float32 has not")
    order = np.argsort(indices)
    return scipy.sparse.csr_matrix((values[order], indices[order], [0, len(indices)]), shape=(1, width))


def _not_wanted(run: Run, one: Any, where: str) -> Any:
    width = run.input_shape[0] if run.input_shape else 0
    kind = f"a list of {len(one)}" if isinstance(one, list | np.ndarray) else f"of type {type(one).__name__}"
    raise Refused(422, f"{where} must be {_WANTED[run.kind].format(width=width)}; it is {kind}")
