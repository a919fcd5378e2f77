"""Convolution with PyTorch's padding, and PyTorch's initial values."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

# What torch.nn.Conv2d and torch.nn.Linear draw their weights from, kaiming_uniform(a=√5): uniform in ±1/√fan_in.
torch_default = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# kaiming_normal(mode='fan_out', nonlinearity='relu'), as torchvision's ResNets use.
kaiming_normal_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv(
    features: int,
    kernel: int,
    stride: int = 1,
    init: nn.initializers.Initializer = torch_default,
    dtype: DTypeLike = jnp.float32,
    name: str | None = None,
) -> nn.Conv:
    """Square convolution without bias, [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features].

    Pads `kernel // 2` on each side like torch's `padding=`; 'SAME' would pad one side less at stride 2.
    """
    padding = ((kernel // 2, kernel // 2),) * 2
    return nn.Conv(
        features, (kernel, kernel), (stride, stride), padding, use_bias=False, dtype=dtype, kernel_init=init, name=name
    )
