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
from mhe_jax.models.features.side_by_side import SideBySide
from mhe_jax.models.images.convnet import ConvNet
from mhe_jax.models.images.convnext import ConvNeXt
from mhe_jax.models.images.resnet import ResNet
from mhe_jax.models.images.resnet_cifar import CifarResNet
from mhe_jax.models.images.vit import ViT
from mhe_jax.models.texts.bert import Bert
from mhe_jax.models.texts.modernbert import ModernBert
from mhe_jax.models.texts.xlnet import XLNet

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "convnet": ConvNet,
    "convnext": ConvNeXt,
    "face_vit": FaceViT,
    "iresnet": IResNet,
    "mobilefacenet": MobileFaceNet,
    "resnet": ResNet,
    "resnet_cifar": CifarResNet,
    "vit": ViT,
}
ENCODERS: dict[str, Callable[..., nn.Module]] = {"bert": Bert, "modernbert": ModernBert, "xlnet": XLNet}
ON_FEATURES: dict[str, Callable[..., nn.Module]] = {"identity": Identity}
ON_SPARSE: dict[str, Callable[..., nn.Module]] = {"bag": Bag}
# Of two others, which are sections of its own.
SIDE_BY_SIDE: dict[str, Callable[..., nn.Module]] = {"side_by_side": SideBySide}
PARTS: dict[str, dict[str, Callable[..., nn.Module]]] = {"network": ENCODERS | ON_FEATURES, "bag": ON_SPARSE}


def build_backbone(section: ConfigDict, dtype: DTypeLike) -> nn.Module:
    """The backbone that `config.backbone` describes.

    It has `features_dim`. One of `BACKBONES` maps (images float [B, H, W, C], train: bool), one of `ENCODERS`
    (token ids int32 [B, T], length int32 [B], train: bool, traced or not) to features [B, features_dim] in `dtype`,
    and so does one of `ON_FEATURES` features float [B, D] and train: bool, traced or not, and one of `ON_SPARSE` the
    numbers int32 [B, W] and values float32 [B, W] of features, and train. 'side_by_side' takes the inputs of both of
    its parts. The embeddings of the backbones for faces, 'iresnet', 'mobilefacenet' and 'face_vit', are float32.

    `wide_params`, where a backbone has it, names the parameters that are read wider than `dtype`, by a key on their
    path; all others but vectors are read in `dtype` alone.

    Raises:
      ValueError: for an unknown backbone, or a field that it does not take.
    """
    if section.get("name") not in SIDE_BY_SIDE:
        return registry.build(BACKBONES | ENCODERS | ON_FEATURES | ON_SPARSE, section, "config.backbone", dtype=dtype)
    own = section.to_dict()
    parts = {
        name: registry.build(entries, own.pop(name, None), f"config.backbone.{name}", dtype=dtype)
        for name, entries in PARTS.items()
    }
    return registry.build(SIDE_BY_SIDE, ConfigDict(own), "config.backbone", **parts, dtype=dtype)
