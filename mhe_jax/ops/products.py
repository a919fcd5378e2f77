"""Matrix products of narrow operands with wide sums, in the gradient too.

`einsum` with a wide `preferred_element_type` is differentiated into products of the wide cotangent with a narrow
operand, and hardware multiplies in the wider of the two: two thirds of a training step's multiplications would lose
what bfloat16 gains. Here the cotangent is rounded to the operands' dtype first, as a product with narrow results has
it.
"""

import functools

import jax
import jax.numpy as jnp


def product(formula: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """`einsum(formula, x, y)` in the dtype of x, with sums and result in float32 or wider.

    >>> x, y = jnp.ones((2, 3), jnp.bfloat16), jnp.full((4, 3), 1 / 3)
    >>> logits = product("bd,cd->bc", x, y)
    >>> logits.shape, str(logits.dtype), jax.grad(lambda y: product("bd,cd->bc", x, y).sum())(y).dtype.name
    ((2, 4), 'float32', 'float32')

    Args:
      formula: of two operands; each index stands in two of the three places at least.
      x: float [...]; its dtype is that of all products, of the gradients' too.
      y: float [...], rounded to that dtype; its gradient is not.
    """
    if x.dtype == _wide(x):
        return _einsum(formula, x, y)
    return _product(formula, x, y)


def _wide(x):
    return jnp.promote_types(x.dtype, jnp.float32)


def _einsum(formula, x, y):
    return jnp.einsum(formula, x, y.astype(x.dtype), preferred_element_type=_wide(x))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(formula, x, y):
    return _einsum(formula, x, y)


def _forward(formula, x, y):
    return _einsum(formula, x, y), (x, y)


def _backward(formula, saved, cotangent):
    x, y = saved
    operands, of_result = formula.split("->")
    of_x, of_y = operands.split(",")
    low = cotangent.astype(x.dtype)
    d_x = _einsum(f"{of_result},{of_y}->{of_x}", low, y)
    return d_x.astype(x.dtype), _einsum(f"{of_result},{of_x}->{of_y}", low, x).astype(y.dtype)


_product.defvjp(_forward, _backward)
