"""Tables that pair PyTorch parameter names with paths in our variables. One table serves import and export.

`{x}` stands for a number and means the same one on both sides. Transforms are named in `TRANSFORMS`.
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import numpy as np

from mhe_jax.interop.positions import resized


class Transform(NamedTuple):
    """How an array changes from torch to us and back.

    to_ours: gets the array and the shape that the model expects; leaves one of another number of axes as it is.
    to_torch: gets our array without the rows that `rows` is about.
    rows: whether its leading axis may be padded on our side.
    labels: whether torch's rows are labels and ours blocks of labels, of which the last may be filled up with zeros.
    padding_row: whether torch has a row more where the last block is filled up: the label that stands there.
    """

    to_ours: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]
    rows: bool = False
    labels: bool = False
    padding_row: bool = False


def _to_blocks(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """[labels, hidden] -> [groups, size, hidden], the last group filled up with zeros."""
    if array.ndim != 2:
        return array
    array = np.pad(array, [(0, -len(array) % shape[1]), (0, 0)])
    return array.reshape(-1, shape[1], array.shape[1])


def _from_blocks(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])


TRANSFORMS = {
    "same": Transform(lambda array, shape: array, lambda array: array),
    # [out, in, kh, kw] and [kh, kw, in, out]
    "conv": Transform(
        lambda array, shape: array.transpose(2, 3, 1, 0) if array.ndim == 4 else array,
        lambda array: array.transpose(3, 2, 0, 1),
    ),
    # [out, in] and [in, out]
    "linear": Transform(lambda array, shape: array.T, lambda array: array.T),
    # [out, in * height * width] and [height, width, in, out]
    "dense_of_places": Transform(
        lambda array, shape: (
            array.reshape(shape[3], shape[2], *shape[:2]).transpose(2, 3, 1, 0)
            if array.size == np.prod(shape)
            else array
        ),
        lambda array: array.transpose(3, 2, 0, 1).reshape(array.shape[3], -1),
    ),
    # A factor of each channel, [channels, 1, 1] and [channels].
    "of_places": Transform(lambda array, shape: array.reshape(-1), lambda array: array[:, None, None]),
    # A vision transformer's positions, of as many patches as the model's pictures have.
    "positions": Transform(resized, lambda array: array),
    # XLNet's map from heads: [out, heads, size] and [heads, size, out]
    "from_heads": Transform(
        lambda array, shape: np.moveaxis(array, 0, -1) if array.ndim else array,
        lambda array: np.moveaxis(array, -1, 0),
    ),
    # A classifier's table, one row or block of rows per class or group.
    "table": Transform(lambda array, shape: array, lambda array: array, rows=True),
    # Embeddings of all nodes of a level, [parents * children, hidden], and [parents, children, hidden].
    "children": Transform(
        lambda array, shape: array if array.size % np.prod(shape[1:]) else array.reshape(-1, *shape[1:]),
        _from_blocks,
        rows=True,
    ),
    # Embeddings of all labels, [labels, hidden], and of blocks of labels, [groups, size, hidden].
    "labels": Transform(_to_blocks, _from_blocks, rows=True, labels=True),
    # With one more for the label that a short last group is filled up with.
    "labels_and_padding": Transform(_to_blocks, _from_blocks, rows=True, labels=True, padding_row=True),
}


class Rule(NamedTuple):
    """torch name <-> path below the variables, and the transform's name."""

    torch: str
    ours: str
    transform: str


def translate(name: str, rules: Iterable[Rule], to: str) -> tuple[str, str] | None:
    """The name on the other side, `to` = 'torch' or 'ours', and the transform; None if no rule knows the name."""
    for rule in rules:
        source, target = (rule.torch, rule.ours) if to == "ours" else (rule.ours, rule.torch)
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[0-9]+)", re.escape(source))
        if match := re.fullmatch(pattern, name):
            return target.format(**match.groupdict()), rule.transform
    return None


def batch_norm(torch: str, ours: str) -> list[Rule]:
    """A BatchNorm of the backbone."""
    pairs = (
        ("weight", "params/backbone", "scale"),
        ("bias", "params/backbone", "bias"),
        ("running_mean", "batch_stats", "mean"),
        ("running_var", "batch_stats", "var"),
    )
    return [Rule(f"{torch}.{name}", f"{collection}/{ours}/{leaf}", "same") for name, collection, leaf in pairs]


def conv(torch: str, ours: str) -> Rule:
    """A convolution of the backbone, without bias."""
    return Rule(f"{torch}.weight", f"params/backbone/{ours}/kernel", "conv")


def linear(torch: str, ours: str) -> list[Rule]:
    """A dense map with bias."""
    return [Rule(f"{torch}.weight", f"{ours}/kernel", "linear"), Rule(f"{torch}.bias", f"{ours}/bias", "same")]


def _resnet(stem: tuple[str, str], stages: dict[str, str], shortcut: str) -> list[Rule]:
    """A ResNet with its stem's convolution and BatchNorm, its stages, and its blocks' shortcut under these names."""
    rules = [conv(stem[0], "conv1"), *batch_norm(stem[1], "bn1")]
    for torch, ours in stages.items():
        block, our_block = f"{torch}.{{block}}", f"{ours}_{{block}}"
        rules += [
            conv(f"{block}.conv{{i}}", f"{our_block}/conv{{i}}"),
            *batch_norm(f"{block}.bn{{i}}", f"{our_block}/bn{{i}}"),
            conv(f"{block}.{shortcut}.0", f"{our_block}/shortcut_conv"),
            *batch_norm(f"{block}.{shortcut}.1", f"{our_block}/shortcut_bn"),
        ]
    return rules


_NAMED_STAGES = {"layer{stage}": "layer{stage}"}
_SEQUENTIAL_STAGES = {f"net.{stage + 3}": f"layer{stage}" for stage in range(1, 5)}

# The published system's CIFAR and ImageNet models (Anoise/MHE, 3e6efba), and torchvision.models.resnet*.
BACKBONES = {
    "reference_cifar": _resnet(("conv1", "bn1"), _NAMED_STAGES, "shortcut"),
    "reference_imagenet": _resnet(("net.0", "net.1"), _SEQUENTIAL_STAGES, "downsample"),
    "torchvision": _resnet(("conv1", "bn1"), _NAMED_STAGES, "downsample"),
}

_HEAD = "params/head"

# By head, and for the cascade by its number of levels: the published names number the levels only from three on.
HEADS = {
    "ohe": [Rule("fc.weight", f"{_HEAD}/kernel", "table"), Rule("fc.bias", f"{_HEAD}/bias", "table")],
    "mhp": linear("classifier", _HEAD),
    "mhc2": [
        *linear("group", f"{_HEAD}/root"),
        *linear("classifier", f"{_HEAD}/project_1"),
        Rule("embed.weight", f"{_HEAD}/table_1", "children"),
    ],
    "mhc": [
        *linear("group", f"{_HEAD}/root"),
        *linear("classifier{level}", f"{_HEAD}/project_{{level}}"),
        Rule("embed{level}.weight", f"{_HEAD}/table_{{level}}", "children"),
    ],
    "mhs": [Rule("weight", f"{_HEAD}/weight", "table")],
    # The published text system: one logit per label; a cascade on one GPU, and on several.
    "text_ohe": [Rule("l0.weight", f"{_HEAD}/kernel", "table"), Rule("l0.bias", f"{_HEAD}/bias", "table")],
    "text_mhc": [
        *linear("l0", f"{_HEAD}/root"),
        *linear("l1", f"{_HEAD}/project_1"),
        Rule("embed.weight", f"{_HEAD}/table_1", "labels"),
    ],
    "text_mhc_multi_gpu": [
        *linear("group_classifer", f"{_HEAD}/root"),
        *linear("sub_classifer", f"{_HEAD}/project_1"),
        Rule("embedding.weight", f"{_HEAD}/table_1", "labels_and_padding"),
    ],
}


def detect_backbone(names: Iterable[str]) -> str:
    """Which of `BACKBONES` a state dict's names belong to.

    Raises:
      ValueError: if they belong to none.
    """
    names = sorted(names)
    if found := _backbone_of(names):
        return found
    raise ValueError(
        f"the state dict has none of the layouts {', '.join(BACKBONES)}: its names are {', '.join(names[:5])}, ..."
    )


def has_backbone(names: Iterable[str]) -> bool:
    """Whether a state dict's names belong to one of `BACKBONES`."""
    return _backbone_of(list(names)) is not None


def _backbone_of(names: Collection[str]) -> str | None:
    marks = {"reference_imagenet": "net.0.", "reference_cifar": ".shortcut.", "torchvision": ".downsample."}
    return next((layout for layout, mark in marks.items() if any(mark in name for name in names)), None)


# A name that only this head has among those that come after it here.
_HEAD_MARKS = (
    ("text_mhc_multi_gpu", "group_classifer.weight"),
    ("text_mhc", "l1.weight"),
    ("text_ohe", "l0.weight"),
    ("mhc", "embed1.weight"),
    ("mhc2", "embed.weight"),
    ("mhp", "classifier.weight"),
    ("ohe", "fc.weight"),
    ("mhs", "weight"),
)


def detect_head(names: Iterable[str]) -> str | None:
    """Which of `HEADS` a state dict's names belong to; None if it has no head."""
    names = set(names)
    return next((head for head, mark in _HEAD_MARKS if mark in names), None)
