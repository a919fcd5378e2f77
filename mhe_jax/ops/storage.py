"""How the numbers of a table are kept: as they are, in bfloat16, or in float8 with a scale for each row.

A float8 number has three bits of mantissa and a range of 2**-9 .. 448, so each row is scaled to what it holds, by a
power of two: what a step does not change stays exactly what it is. Narrow numbers are rounded by chance where a step
moves them (`mhe_jax.ops.rounding`), and to the nearest at the start.

XLA's compiler for CPUs has no arithmetic of narrow numbers, and would widen a whole table in each turn of a loop over
its blocks. There the loop carries the integers of their bits, `as_bits`.
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
class Bits:
    """Narrow numbers as unsigned integers of their size.

    Attributes:
      integers: uint16 or uint8 [...].
      dtype: of the numbers.
    """

    integers: Any
    dtype: Any = struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.integers.shape

    def reshape(self, *shape: int) -> "Bits":
        """The numbers in another arrangement."""
        return Bits(self.integers.reshape(shape), self.dtype)


@struct.dataclass
class Scaled:
    """Rows of float8 numbers, `values * scales`.

    Attributes:
      values: float8_e4m3fn [..., D], or their bits.
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
        return Scaled(self.values.reshape(*shape), self.scales.reshape(shape[:-1]))


Stored = jax.Array | Scaled | Bits


def as_bits(stored: Stored) -> Stored:
    """Narrow numbers as integers, others as they are.

    >>> kept = as_bits(store(jnp.array([[0.5, -3.0]]), "float8"))
    >>> kept.values.integers.tolist(), widen(kept).tolist()
    ([[104, 252]], [[0.5, -3.0]])
    """
    if isinstance(stored, Scaled):
        return Scaled(as_bits(stored.values), stored.scales)
    if isinstance(stored, Bits) or stored.dtype.itemsize >= 4:
        return stored
    return Bits(lax.bitcast_convert_type(stored, f"uint{8 * stored.dtype.itemsize}"), stored.dtype)


def as_numbers(stored: Stored) -> jax.Array | Scaled:
    """What `as_bits` was made of."""
    if isinstance(stored, Scaled):
        return Scaled(as_numbers(stored.values), stored.scales)
    return lax.bitcast_convert_type(stored.integers, stored.dtype) if isinstance(stored, Bits) else stored


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
    stored = as_numbers(stored)
    if isinstance(stored, Scaled):
        return stored.values.astype(jnp.float32) * stored.scales[..., None]
    return stored


def narrow(
    rows: Float32[Array, "rows dim"], like: Stored, row_ids: Int[Array, "rows"], key: UInt32[Array, "2"]
) -> Stored:
    """float32 rows as others are kept, narrow numbers rounded by chance, see `mhe_jax.ops.rounding`."""
    if isinstance(like, Scaled):
        scales = _scales(rows)
        values = rounding.stochastic_float8(rows / scales[:, None], row_ids, key)
        return Scaled(as_bits(values) if isinstance(like.values, Bits) else values, scales)
    new = rounding.stochastic_bfloat16(rows, row_ids, key) if like.dtype == jnp.bfloat16 else rows
    return as_bits(new) if isinstance(like, Bits) else new


def _scales(rows):
    largest = jnp.abs(rows).max(axis=-1)
    power = lax.bitcast_convert_type(lax.bitcast_convert_type(largest, jnp.uint32) & _EXPONENT, jnp.float32)
    return jnp.where(largest > 0, jnp.maximum(power / _LARGEST, _SMALLEST), 1.0)
