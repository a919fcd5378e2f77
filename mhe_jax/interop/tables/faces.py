"""Parameter names of insightface's backbones and classifiers, paired with ours as in `interop.tables.patterns`."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from mhe_jax.interop.tables.patterns import HEADS, Rule, batch_norm, conv, linear

# The scale of iresnet's last BatchNorm, which training leaves at 1. Ours has none.
FROZEN = "features.weight"

_HEAD = "params/head"


def _prelu(torch: str, ours: str) -> Rule:
    return Rule(f"{torch}.weight", f"params/backbone/{ours}/slope", "same")


def _kernel(torch: str, ours: str) -> Rule:
    """A dense map of the backbone, without bias."""
    return Rule(f"{torch}.weight", f"params/backbone/{ours}/kernel", "linear")


def _bias(torch: str, ours: str) -> Rule:
    return Rule(f"{torch}.bias", f"params/backbone/{ours}/bias", "same")


def _layer_norm(torch: str, ours: str) -> list[Rule]:
    return [Rule(f"{torch}.weight", f"params/backbone/{ours}/scale", "same"), _bias(torch, ours)]


def _iresnet() -> list[Rule]:
    block, ours = "layer{stage}.{block}", "layer{stage}_{block}"
    return [
        conv("conv1", "conv1"),
        *batch_norm("bn{i}", "bn{i}"),
        _prelu("prelu", "prelu"),
        *batch_norm(f"{block}.bn{{i}}", f"{ours}/bn{{i}}"),
        conv(f"{block}.conv{{i}}", f"{ours}/conv{{i}}"),
        _prelu(f"{block}.prelu", f"{ours}/prelu"),
        conv(f"{block}.downsample.0", f"{ours}/shortcut_conv"),
        *batch_norm(f"{block}.downsample.1", f"{ours}/shortcut_bn"),
        Rule("fc.weight", "params/backbone/fc/kernel", "dense_of_places"),
        _bias("fc", "fc"),
        *(rule for rule in batch_norm("features", "features") if rule.torch != FROZEN),
    ]


def _conv_block(torch: str, ours: str, conv_name: str = "conv/") -> list[Rule]:
    """Convolution, BatchNorm and PReLU; the last is not everywhere."""
    kernel = Rule(f"{torch}.layers.0.weight", f"params/backbone/{ours}/{conv_name}kernel", "conv")
    return [kernel, *batch_norm(f"{torch}.layers.1", f"{ours}/bn"), _prelu(f"{torch}.layers.2", f"{ours}/prelu")]


def _mobilefacenet() -> list[Rule]:
    rules = [*_conv_block("layers.0", "stem", conv_name=""), *_conv_block("layers.1", "stem_grouped")]
    for stage in range(1, 4):
        for i, part in enumerate(("expand", "depthwise", "project")):
            rules += _conv_block(f"layers.{2 * stage}.layers.{i}", f"stage{stage}_down/{part}")
            rules += _conv_block(
                f"layers.{2 * stage + 1}.layers.{{block}}.layers.{i}", f"stage{stage}_{{block}}/{part}"
            )
    return [
        *rules,
        *_conv_block("conv_sep", "last"),
        conv("features.layers.0.layers.0", "places"),
        *batch_norm("features.layers.0.layers.1", "places_bn"),
        _kernel("features.layers.2", "embedding"),
        *batch_norm("features.layers.3", "embedding_bn"),
    ]


def _vit() -> list[Rule]:
    block, ours = "blocks.{i}", "block_{i}"
    return [
        conv("patch_embed.proj", "patch"),
        _bias("patch_embed.proj", "patch"),
        Rule("pos_embed", "params/backbone/positions", "same"),
        Rule("mask_token", "params/backbone/mask_token", "same"),
        *_layer_norm(f"{block}.norm1", f"{ours}/norm1"),
        _kernel(f"{block}.attn.qkv", f"{ours}/qkv"),
        *linear(f"{block}.attn.proj", f"params/backbone/{ours}/proj"),
        *_layer_norm(f"{block}.norm2", f"{ours}/norm2"),
        *linear(f"{block}.mlp.fc1", f"params/backbone/{ours}/up"),
        *linear(f"{block}.mlp.fc2", f"params/backbone/{ours}/down"),
        *_layer_norm("norm", "norm"),
        _kernel("feature.0", "features_1"),
        *batch_norm("feature.1", "features_1_bn"),
        _kernel("feature.2", "features_2"),
        *batch_norm("feature.3", "features_2_bn"),
    ]


# Insightface's recognition/arcface_torch/backbones: iresnet.py, mobilefacenet.py, vit.py.
BACKBONES = {
    "insightface_iresnet": _iresnet(),
    "insightface_mobilefacenet": _mobilefacenet(),
    "insightface_vit": _vit(),
}

# A name that only this backbone has.
_MARKS = {
    "insightface_iresnet": "layer1.0.prelu.weight",
    "insightface_mobilefacenet": "conv_sep.layers.0.weight",
    "insightface_vit": "feature.2.weight",
}


def detect_backbone(names: Collection[str]) -> str | None:
    """Which of `BACKBONES` a state dict's names belong to; None if to none of them."""
    return next((layout for layout, mark in _MARKS.items() if mark in names), None)


def head_rules(weight: Any, paths: Iterable[str]) -> list[Rule]:
    """The rules for a classifier's `weight`: a row per class [C, D], or blocks of rows [n0, n1, D].

    A row per class also fills a sampled head's blocks: class c is row c % n1 of block c // n1.

    Args:
      weight: the array in the state dict, or None if there is none.
      paths: of our variables.
    """
    if weight is None:
        return []
    if np.ndim(weight) == 3:
        return HEADS["mhs"]
    if f"{_HEAD}/weight" in paths:
        return [Rule("weight", f"{_HEAD}/weight", "labels")]
    return EXPORTED_HEADS["ohe"]


# By our head: PartialFC's table for one row per class, the published face heads' blocks for the sampled one.
EXPORTED_HEADS = {"ohe": [Rule("weight", f"{_HEAD}/kernel", "table")], "mhs": HEADS["mhs"]}


def check_frozen(state_dict: Mapping[str, Any]) -> None:
    """Raises ValueError if the scale of iresnet's last BatchNorm, which our model lacks, is not 1."""
    if FROZEN in state_dict and not np.all(np.asarray(state_dict[FROZEN]) == 1):
        raise ValueError(
            f"the state dict's {FROZEN} is not all ones: insightface freezes it, and the model has no such scale"
        )


def frozen(layout: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a state dict of this layout has besides what our variables have."""
    return {FROZEN: np.ones_like(state["features.bias"])} if layout == "insightface_iresnet" else {}


def is_ignored(name: str) -> bool:
    """Whether a name that no rule knows is a known one without counterpart."""
    return name == FROZEN or name.endswith("num_batches_tracked")
