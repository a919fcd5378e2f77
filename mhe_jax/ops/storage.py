"""How the numbers of a table are kept: as they are, in bfloat16, or in float8 with a scale for each row.

A float8 number has three bits of mantissa and a range of 2**-9 .. 448, so each row is scaled to what it holds, by a
power of two: what a step does not change stays exactly what it is. Narrow numbers are rounded by chance where a step
moves them (`mhe_jax.ops.rounding`), and to the nearest at the start.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Float32, Int, UInt32

from mhe_jax.ops import rounding

STORAGES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float8": jnp.float8_e4m3fn}

_LARGEST = 2.0**7  # the largest number of a scaled row is this or more, and less than twice it
_SMALLEST = 2.0**-126  # float32 numbers below it are flushed to 0
_EXPONENT = 0xFF << 23  # where a float32 has it


@struct.dataclass
class Scaled:
    """Rows of float8 numbers, `values * scales`.

    Attributes:
      values: float8_e4m3fn [..., D].
      scales: float32 [...], powers of two.
    """

    values: Any
    scales: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def reshape(self, *shape: int) -> "Scaled":
        """The rows in another arrangement, [..., D]."""
        return Scaled(self.values.reshape(shape), self.scales.reshape(shape[:-1]))


Stored = jax.Array | Scaled


def store(rows: Float32[Array, "*rows dim"], storage: str) -> Stored:
    """float32 rows as they are kept, rounded to the nearest number.

    >>> kept = store(jnp.array([[0.5, -3.0], [0.0, 0.0]]), "float8")
    >>> widen(kept).tolist()
    [[0.5, -3.0], [0.0, 0.0]]
    """
    if storage != "float8":
        return rows.astype(STORAGES[storage])
    scales = _scales(rows)
    return Scaled((rows / scales[..., None]).astype(jnp.float8_e4m3fn), scales)


def widen(stored: Stored) -> Float[Array, "*rows dim"]:
    """The rows as numbers: float8 ones as float32, others as they are."""
    if isinstance(stored, Scaled):
        return stored.values.astype(jnp.float32) * stored.scales[..., None]
    return stored


def narrow(
    rows: Float32[Array, "rows dim"], like: Stored, row_ids: Int[Array, "rows"], key: UInt32[Array, "2"]
) -> Stored:
    """float32 rows as others are kept, narrow numbers rounded by chance, see `mhe_jax.ops.rounding`."""
    if isinstance(like, Scaled):
        scales = _scales(rows)
        return Scaled(rounding.stochastic_float8(rows / scales[:, None], row_ids, key), scales)
    return rounding.stochastic_bfloat16(rows, row_ids, key) if like.dtype == jnp.bfloat16 else rows


def _scales(rows):
    largest = jnp.abs(rows).max(axis=-1)
    power = lax.bitcast_convert_type(lax.bitcast_convert_type(largest, jnp.uint32) & _EXPONENT, jnp.float32)
    return jnp.where(largest > 0, jnp.maximum(power / _LARGEST, _SMALLEST), 1.0)
