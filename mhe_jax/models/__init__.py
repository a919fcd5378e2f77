"""Backbones: images to features."""

from collections.abc import Callable

import flax.linen as nn
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.models.convnet import ConvNet
from mhe_jax.models.resnet import ResNet
from mhe_jax.models.resnet_cifar import CifarResNet

BACKBONES: dict[str, Callable[..., nn.Module]] = {"convnet": ConvNet, "resnet": ResNet, "resnet_cifar": CifarResNet}


def build_backbone(section: ConfigDict, dtype: DTypeLike) -> nn.Module:
    """The backbone that `config.backbone` describes.

    It has `features_dim`, and maps (images float [B, H, W, C], train: bool) to features [B, features_dim] in `dtype`.

    Raises:
      ValueError: for an unknown backbone, or a field that it does not take.
    """
    return registry.build(BACKBONES, section, "config.backbone", dtype=dtype)
