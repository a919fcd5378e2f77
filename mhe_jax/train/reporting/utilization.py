"""How much of the devices' arithmetic a run uses: the products of a step, and what the devices could do at best."""

import math
from typing import Any

import jax
import jax.extend.core

# Dense bfloat16 FLOP/s of a device, by the start of its name; the first that fits.
PEAKS: tuple[tuple[str, float], ...] = (
    # NVIDIA H100 and H200 Tensor Core GPU data sheets: 1,513 (PCIe), 1,671 (NVL) and 1,979 TFLOPS with sparsity.
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100 NVL", 835e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA H200 NVL", 835e12),
    ("NVIDIA H200", 989e12),
    # NVIDIA A100 Tensor Core GPU data sheet.
    ("NVIDIA A100", 312e12),
    # NVIDIA L40S data sheet: 733 TFLOPS with sparsity.
    ("NVIDIA L40S", 362e12),
    # cloud.google.com/tpu/docs: v4, v5e, v5p and v6e, "peak compute per chip (bf16)".
    ("TPU v4 lite", 137e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6", 918e12),
)


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 FLOP/s that the maker gives for a device; None if it is not in the table."""
    return next((peak for name, peak in PEAKS if device_kind.startswith(name)), None)


def peak_step_seconds(step: jax.extend.core.ClosedJaxpr, devices: int) -> float | None:
    """How long a traced step's products would take on so many of the devices that are here, at their peak."""
    peak = peak_flops(jax.devices()[0].device_kind)
    return product_flops(step.jaxpr) / (peak * devices) if peak else None


def product_flops(program: jax.extend.core.Jaxpr) -> float:
    """Floating-point operations in the matrix products and convolutions of a traced program, on all devices together.

    A multiplication and an addition are two. What is computed twice to save memory counts twice. The body of a loop of
    fixed length counts that often, of any other loop once, and of branches the one with most. XLA's own analysis counts
    every body once, also where a head goes over its table in blocks or a batch is cut into parts.
    """
    return sum(_flops(equation) for equation in program.eqns)


def _flops(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        numbers, kernel = parameters["dimension_numbers"], equation.invars[1].aval.shape
        window = math.prod(kernel) / kernel[numbers.rhs_spec[0]]  # inputs of a group, times the window's size
        # Where the input is dilated, by the gradient of a stride, the zeros in between are not multiplied.
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * window / math.prod(parameters["lhs_dilation"])
    inner = [product_flops(body) for body in jax.extend.core.jaxprs_in_params(parameters)]
    if name == "cond":
        return max(inner, default=0.0)
    if name == "scan":
        return parameters["length"] * sum(inner)
    if name == "shard_map":
        shape = dict(parameters["mesh"].shape)
        return math.prod(shape[axis] for axis in parameters["newly_manual_axes"]) * sum(inner)
    return sum(inner)
