"""ResNet for 32×32 images."""

from mhe_jax.models.images.residual import ResidualNetwork
from mhe_jax.models.layers.convolution import torch_default


class CifarResNet(ResidualNetwork):
    """ResNet-18/34/50/101/152 with a 3×3 stem and no pooling before the last: the reference's CIFAR backbone.

    Convolutions start from torch.nn.Conv2d's default values.
    """

    kernel_init = staticmethod(torch_default)

    def stem(self, x, train):
        return self.stem_conv(x, kernel=3, stride=1, train=train)
