"""Operations as ONNX nodes, run by onnxruntime, against JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from mhe_jax.export.onnx.convert import model_of

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

RNG = np.random.default_rng(0)
PICTURES = RNG.normal(size=(3, 7, 6, 4)).astype(np.float32)
ROWS = RNG.normal(size=(3, 7)).astype(np.float32)
PLACES = RNG.integers(-9, 9, size=(3, 5)).astype(np.int32)
KERNEL = RNG.normal(size=(3, 3, 2, 8)).astype(np.float32)
TABLE = RNG.normal(size=(9, 4)).astype(np.float32)


def convolved(x):
    numbers = ("NHWC", "HWIO", "NHWC")
    padding = ((1, 1), (0, 2))
    return lax.conv_general_dilated(x, KERNEL, (2, 1), padding, None, (1, 2), numbers, feature_group_count=2)


def pooled(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 1), (0, 1), (0, 0)))


def counted(x):
    """A while loop: how often a row is halved until its sum is small."""
    step = lambda carry: (carry[0] + 1, carry[1] / 2)
    return lax.while_loop(lambda carry: jnp.abs(carry[1]).sum() > 0.3, step, (0, x))


def summed(x):
    """A scan with a carry, rows, and results of each step."""
    return lax.scan(lambda total, row: (total + row.sum(), total * row), jnp.float32(1), x)


def attended(x):
    scores = jnp.einsum("bijc,bkjc->bjik", x, x)
    return jnp.einsum("bjik,bkjc->bijc", jax.nn.softmax(scores), x)


CASES = {
    "convolution": (convolved, PICTURES),
    "max_pool": (pooled, PICTURES),
    "products": (attended, PICTURES),
    "reversed": (lambda x: x[:, :, ::-1], PICTURES),
    "strided": (lambda x: x[:, 1:-1:2, :3], PICTURES),
    "unstacked": (lambda x: jnp.unstack(x, axis=1), PICTURES),
    "padded": (lambda x: jnp.pad(x, ((0, 0), (1, 2)), constant_values=-3), ROWS),
    "reductions": (lambda x: (x.sum(1), x.max(), x.min(0), x.argmax(1), (x > 0).any(1), (x > 0).all(1)), ROWS),
    "gelu": (lambda x: (jax.nn.gelu(x, approximate=False), jax.nn.gelu(x), jax.nn.log_sigmoid(x)), ROWS),
    "normalised": (lambda x: (x - x.mean(1, keepdims=True)) * lax.rsqrt(x.var(1, keepdims=True) + 1e-6), ROWS),
    "selected": (lambda x: jnp.where(jnp.isfinite(jnp.log(x)), jnp.clip(x, -1, 0.5), x**3), ROWS),
    "top": (lambda x: lax.top_k(jnp.floor(x), 4), ROWS),
    "sorted": (lambda x: jnp.sort(x, axis=1), ROWS),
    "own place": (lambda x: jnp.take_along_axis(TABLE[:3], jnp.abs(x) % 4, axis=1), PLACES),
    "filled": (lambda x: jnp.take_along_axis(ROWS, x, axis=1, mode="fill", fill_value=-1), PLACES),
    "rows": (lambda x: jnp.take(TABLE, x, axis=0, mode="clip"), PLACES),
    "rows filled": (lambda x: jnp.take(TABLE, x, axis=0, mode="fill"), PLACES),
    "columns": (lambda x: x[:, jnp.array([4, 0, 0])], ROWS),
    "a slice": (lambda x: lax.dynamic_slice(x, (x[0, 0].astype(jnp.int32), 2), (2, 4)), ROWS),
    "whole numbers": (lambda x: (x // 4, x % 4, lax.rem(x, 4), lax.div(x, 4), jnp.sign(x), x != 2), PLACES),
    "counted": (lambda x: jnp.arange(x.shape[1])[None, :] < x[:, :1], PLACES),
    "single places": (lambda x: x.at[1, jnp.array([4, 0])].set(9.0), ROWS),
    "truth in places": (lambda x: (x > 0).at[jnp.array([2, 0]), jnp.array([1, 6])].set(False), ROWS),
    "while": (counted, ROWS),
    "scan": (summed, ROWS),
}


def ran(function, value, shape=None):
    """What onnxruntime and JAX answer, and the model."""
    outputs = lambda x: dict(enumerate_of(function(x)))
    sizes = value.shape if shape is None else export.symbolic_shape(shape)
    model = model_of(lambda _, inputs: outputs(inputs["x"]), {}, {"x": jax.ShapeDtypeStruct(sizes, value.dtype)})
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": value}), strict=True)), jax.jit(outputs)(value)


def enumerate_of(found):
    return ((f"y{number}", leaf) for number, leaf in enumerate(jax.tree.leaves(found)))


def assert_close(theirs, ours):
    assert theirs.keys() == ours.keys()
    for name, array in ours.items():
        assert theirs[name].dtype == array.dtype
        np.testing.assert_allclose(theirs[name], array, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_an_operation(name):
    assert_close(*ran(*CASES[name]))


@pytest.mark.parametrize(
    "name", ["convolution", "max_pool", "products", "rows", "top", "counted", "reversed", "columns"]
)
def test_any_number_of_rows(name):
    function, value = CASES[name]
    shape = ", ".join(["batch", *map(str, value.shape[1:])])
    assert_close(*ran(function, value, shape))


def test_sizes_that_are_computed():
    function = lambda x: (x.reshape(-1), jnp.concatenate([x, x], axis=1), jnp.zeros((x.shape[0], 2 * x.shape[1])))
    assert_close(*ran(function, ROWS, "batch, length"))


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: jnp.cumsum(x, axis=1), "cumsum"),
        (lambda x: lax.scan(lambda c, row: (c + row.sum(), None), 0.0, x, reverse=True)[0], "a scan from the end"),
        (
            lambda x: lax.conv_transpose(PICTURES, KERNEL[:, :, :2, :4].repeat(2, axis=2), (2, 2), "SAME") + x.sum(),
            "conv",
        ),
        (lambda x: lax.cond(x.sum() > 0, lambda: 1.0, lambda: 2.0), "cond"),
        (lambda x: lax.sort_key_val(x, x)[0], "sort of several"),
    ],
)
def test_what_has_no_rule_is_named(function, operation):
    with pytest.raises(NotImplementedError, match=operation):
        ran(function, ROWS)
