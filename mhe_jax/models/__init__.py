"""Backbones: images, the tokens of texts, or the features of another network, to features."""

from collections.abc import Callable

import flax.linen as nn
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.models.faces.iresnet import IResNet
from mhe_jax.models.faces.mobilefacenet import MobileFaceNet
from mhe_jax.models.faces.vit import FaceViT
from mhe_jax.models.features.bag import Bag
from mhe_jax.models.features.identity import Identity
from mhe_jax.models.images.convnet import ConvNet
from mhe_jax.models.images.resnet import ResNet
from mhe_jax.models.images.resnet_cifar import CifarResNet
from mhe_jax.models.texts.bert import Bert
from mhe_jax.models.texts.xlnet import XLNet

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "convnet": ConvNet,
    "face_vit": FaceViT,
    "iresnet": IResNet,
    "mobilefacenet": MobileFaceNet,
    "resnet": ResNet,
    "resnet_cifar": CifarResNet,
}
ENCODERS: dict[str, Callable[..., nn.Module]] = {"bert": Bert, "xlnet": XLNet}
ON_FEATURES: dict[str, Callable[..., nn.Module]] = {"identity": Identity}
ON_SPARSE: dict[str, Callable[..., nn.Module]] = {"bag": Bag}


def build_backbone(section: ConfigDict, dtype: DTypeLike) -> nn.Module:
    """The backbone that `config.backbone` describes.

    It has `features_dim`. One of `BACKBONES` maps (images float [B, H, W, C], train: bool), one of `ENCODERS`
    (token ids int32 [B, T], length int32 [B], train: bool, traced or not) to features [B, features_dim] in `dtype`,
    and so does one of `ON_FEATURES` features float [B, D] and train: bool, traced or not, and one of `ON_SPARSE` the
    numbers int32 [B, W] and values float32 [B, W] of features, and train; the embeddings of the backbones for
    faces, 'iresnet', 'mobilefacenet' and 'face_vit', are float32.

    Raises:
      ValueError: for an unknown backbone, or a field that it does not take.
    """
    return registry.build(BACKBONES | ENCODERS | ON_FEATURES | ON_SPARSE, section, "config.backbone", dtype=dtype)
