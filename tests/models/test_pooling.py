import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from mhe_jax.models.layers.pooling import max_pool


@pytest.mark.parametrize(
    ("pixels", "size", "stride", "padding"),
    [((8, 8), 3, 2, 1), ((7, 10), 3, 2, 1), ((9, 6), 2, 2, 0), ((5, 5), 3, 1, 1), ((11, 4), 2, 3, 1)],
)
def test_each_window_has_its_maximum_and_gives_its_gradient_to_the_first_of_equal_ones(pixels, size, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 3, (2, *pixels, 3)).astype(np.float32)  # with many equal ones
    maxima, gradient = jax.vjp(lambda x: max_pool(x, size, stride, padding), jnp.asarray(x))
    d_maxima = rng.normal(size=maxima.shape).astype(np.float32)

    expected, d_x = np.zeros(maxima.shape), np.zeros(x.shape)
    for place in np.ndindex(maxima.shape):
        example, row, column, channel = place
        window = [
            (example, i, j, channel)
            for i in range(row * stride - padding, row * stride - padding + size)
            for j in range(column * stride - padding, column * stride - padding + size)
            if 0 <= i < pixels[0] and 0 <= j < pixels[1]
        ]
        first = max(window, key=lambda at: x[at])
        expected[place] = x[first]
        d_x[first] += d_maxima[place]

    np.testing.assert_array_equal(maxima, expected)
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), size, stride, padding), expected)
    np.testing.assert_allclose(gradient(jnp.asarray(d_maxima))[0], d_x, atol=1e-6)


def test_gradients_of_bfloat16_are_added_in_float32():
    x = jnp.zeros((1, 5, 5, 1), jnp.bfloat16).at[0, 1, 1, 0].set(1.0)
    _, gradient = jax.vjp(lambda x: max_pool(x, 3, 1, 1), x)
    # The 1 is added first, for it is of the window whose first pixel this is; in bfloat16 the others would be lost.
    d_maxima = jnp.full((1, 5, 5, 1), 2.0**-8, jnp.bfloat16).at[0, 2, 2, 0].set(1.0)
    assert gradient(d_maxima)[0][0, 1, 1, 0] == jnp.bfloat16(1 + 8 * 2.0**-8)


@pytest.mark.parametrize(("platform", "own"), [("tpu", False), ("cuda", True), ("cpu", True)])
def test_tpus_alone_look_for_the_maxima_again(platform, own):
    gradient = jax.jit(jax.grad(lambda x: (max_pool(x, 3, 2, 1) ** 2).sum()))
    x = jax.ShapeDtypeStruct((2, 9, 9, 3), jnp.float32)
    text = export.export(gradient, platforms=[platform])(x).mlir_module()
    assert ("select_and_scatter" in text) != own
