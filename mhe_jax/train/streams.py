"""Randomness by name: nothing of it is stored, and a run that is resumed draws what it would have drawn."""

import zlib

import jax


def stream(seed: int, name: str, step) -> jax.Array:
    """The random key of a named stream at a step: a pure function of its arguments, so that nothing is stored."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode())), step)
