import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from mhe_jax.train.reporting.utilization import peak_flops, product_flops

X, W = jnp.ones((8, 16)), jnp.ones((16, 16))
IMAGES, KERNEL = jnp.ones((2, 9, 9, 4)), jnp.ones((3, 3, 2, 6))


def convolution(images, kernel, stride=1):
    return jax.lax.conv_general_dilated(
        images, kernel, (stride,) * 2, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
    )


def counted(program, *arguments):
    return product_flops(jax.make_jaxpr(program)(*arguments).jaxpr)


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (lambda x, w: x @ w, (X, W)),
        (lambda x, w: jnp.einsum("bi,bj->bij", x, x @ w).sum(), (X, W)),
        (convolution, (IMAGES, KERNEL)),
        (jax.value_and_grad(lambda images, kernel: convolution(images, kernel).sum(), argnums=1), (IMAGES, KERNEL)),
    ],
)
def test_products_are_counted_as_xla_counts_them(program, arguments):
    analysis = jax.jit(program).lower(*arguments).cost_analysis()
    # XLA's figure has the sums and the multiplications between arrays too.
    assert counted(program, *arguments) == pytest.approx(analysis["flops"], rel=0.2)


def test_loops_count_as_often_as_they_run_and_branches_by_the_costliest():
    product = 2 * 8 * 16 * 16
    assert counted(lambda x, w: jax.lax.scan(lambda c, _: (c @ w, None), x, length=7)[0], X, W) == 7 * product
    assert counted(lambda x, w: jax.lax.fori_loop(0, x[0, 0].astype(int), lambda i, c: c @ w, x), X, W) == product
    branches = lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w)
    assert counted(branches, X, W) == 2 * product
    assert counted(jax.grad(lambda w, x: jax.checkpoint(lambda w: (x @ w).sum())(w)), W, X) in (product, 2 * product)


def test_the_products_of_all_devices_count(mesh):
    split = PartitionSpec(("data", "class"))
    program = jax.shard_map(lambda x, w: x @ w, in_specs=(split, PartitionSpec()), out_specs=split)
    assert counted(program, X, W) == 2 * 8 * 16 * 16


def test_the_gradient_of_a_stride_does_not_count_the_zeros_between():
    strided = lambda images, kernel: convolution(images, kernel, stride=2).sum()
    forward = counted(strided, IMAGES, KERNEL)
    # The input's gradient touches what the product did, and the border.
    assert 2 * forward <= counted(jax.value_and_grad(strided), IMAGES, KERNEL) < 3 * forward


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v6 lite", 918e12),
        ("cpu", None),
        ("NVIDIA GeForce RTX 3090", None),
    ],
)
def test_peaks_are_known_by_the_names_that_devices_have(kind, peak):
    assert peak_flops(kind) == peak
