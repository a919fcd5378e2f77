"""ResNet for ImageNet-sized images."""

from mhe_jax.models.images.residual import ResidualNetwork
from mhe_jax.models.layers.convolution import kaiming_normal_fan_out
from mhe_jax.models.layers.pooling import max_pool


class ResNet(ResidualNetwork):
    """torchvision's ResNet-18/34/50/101/152 ("v1.5"): a 7×7 stem of stride 2 and a max-pool of stride 2.

    Convolutions start from torchvision's kaiming_normal(fan_out).
    """

    kernel_init = staticmethod(kaiming_normal_fan_out)

    def stem(self, x, train):
        x = self.stem_conv(x, kernel=7, stride=2, train=train)
        return max_pool(x, size=3, stride=2, padding=1)
