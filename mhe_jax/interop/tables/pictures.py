"""Parameter names of timm's and torchvision's ViT and ConvNeXt, paired with ours as in `interop.tables.patterns`."""

from collections.abc import Collection

from mhe_jax.interop.tables.patterns import Rule, linear

_BACKBONE, _HEAD = "params/backbone", "params/head"


def _norm(torch: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{torch}.weight", f"{_BACKBONE}/{ours}/scale", "same"),
        Rule(f"{torch}.bias", f"{_BACKBONE}/{ours}/bias", "same"),
    ]


def _conv(torch: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{torch}.weight", f"{_BACKBONE}/{ours}/kernel", "conv"),
        Rule(f"{torch}.bias", f"{_BACKBONE}/{ours}/bias", "same"),
    ]


def _dense(torch: str, ours: str) -> list[Rule]:
    return linear(torch, f"{_BACKBONE}/{ours}")


def _vit(
    outer: dict[str, str], block: str, inner: dict[str, str], qkv: tuple[str, str], token: str, positions: str
) -> list[Rule]:
    """A ViT: the names of patches and last norm, of a block, of what is in it, and of single parameters."""
    ours = "block_{i}"
    return [
        Rule(token, f"{_BACKBONE}/class_token", "same"),
        Rule(positions, f"{_BACKBONE}/positions", "positions"),
        *_conv(outer["patch"], "patch"),
        *_norm(outer["norm"], "norm"),
        Rule(f"{block}.{qkv[0]}", f"{_BACKBONE}/{ours}/qkv/kernel", "linear"),
        Rule(f"{block}.{qkv[1]}", f"{_BACKBONE}/{ours}/qkv/bias", "same"),
        *(rule for name in ("norm1", "norm2") for rule in _norm(f"{block}.{inner[name]}", f"{ours}/{name}")),
        *(rule for name in ("proj", "up", "down") for rule in _dense(f"{block}.{inner[name]}", f"{ours}/{name}")),
    ]


_TIMM_VIT = _vit(
    {"patch": "patch_embed.proj", "norm": "norm"},
    "blocks.{i}",
    {"norm1": "norm1", "norm2": "norm2", "proj": "attn.proj", "up": "mlp.fc1", "down": "mlp.fc2"},
    ("attn.qkv.weight", "attn.qkv.bias"),
    "cls_token",
    "pos_embed",
)
# The files that torchvision offers say `mlp.linear_1` and `mlp.linear_2`, its own modules `mlp.0` and `mlp.3`.
_OLDER_MLP = [
    *_dense("encoder.layers.encoder_layer_{i}.mlp.linear_1", "block_{i}/up"),
    *_dense("encoder.layers.encoder_layer_{i}.mlp.linear_2", "block_{i}/down"),
]
_TORCHVISION_VIT = _vit(
    {"patch": "conv_proj", "norm": "encoder.ln"},
    "encoder.layers.encoder_layer_{i}",
    {"norm1": "ln_1", "norm2": "ln_2", "proj": "self_attention.out_proj", "up": "mlp.0", "down": "mlp.3"},
    ("self_attention.in_proj_weight", "self_attention.in_proj_bias"),
    "class_token",
    "encoder.pos_embedding",
)


def _timm_convnext() -> list[Rule]:
    rules = [*_conv("stem.0", "stem"), *_norm("stem.1", "stem_norm"), *_norm("head.norm", "norm")]
    for stage in range(1, 5):
        torch, ours = f"stages.{stage - 1}", f"stage{stage}"
        block, our_block = f"{torch}.blocks.{{i}}", f"{ours}_{{i}}"
        rules += [
            *_norm(f"{torch}.downsample.0", f"{ours}_down_norm"),
            *_conv(f"{torch}.downsample.1", f"{ours}_down"),
            Rule(f"{block}.conv_dw.weight", f"{_BACKBONE}/{our_block}/depthwise/kernel", "conv"),
            Rule(f"{block}.conv_dw.bias", f"{_BACKBONE}/{our_block}/depthwise_bias", "same"),
            Rule(f"{block}.gamma", f"{_BACKBONE}/{our_block}/scale", "same"),
            *_norm(f"{block}.norm", f"{our_block}/norm"),
            *_dense(f"{block}.mlp.fc1", f"{our_block}/up"),
            *_dense(f"{block}.mlp.fc2", f"{our_block}/down"),
        ]
    return rules


def _torchvision_convnext() -> list[Rule]:
    rules = [*_conv("features.0.0", "stem"), *_norm("features.0.1", "stem_norm"), *_norm("classifier.0", "norm")]
    for stage in range(1, 5):
        down, ours = f"features.{2 * stage - 2}", f"stage{stage}"
        block, our_block = f"features.{2 * stage - 1}.{{i}}", f"{ours}_{{i}}"
        if stage > 1:
            rules += [*_norm(f"{down}.0", f"{ours}_down_norm"), *_conv(f"{down}.1", f"{ours}_down")]
        rules += [
            Rule(f"{block}.block.0.weight", f"{_BACKBONE}/{our_block}/depthwise/kernel", "conv"),
            Rule(f"{block}.block.0.bias", f"{_BACKBONE}/{our_block}/depthwise_bias", "same"),
            Rule(f"{block}.layer_scale", f"{_BACKBONE}/{our_block}/scale", "of_places"),
            *_norm(f"{block}.block.2", f"{our_block}/norm"),
            *_dense(f"{block}.block.3", f"{our_block}/up"),
            *_dense(f"{block}.block.5", f"{our_block}/down"),
        ]
    return rules


BACKBONES = {
    "timm_vit": _TIMM_VIT,
    "torchvision_vit": _TORCHVISION_VIT + _OLDER_MLP,
    "timm_convnext": _timm_convnext(),
    "torchvision_convnext": _torchvision_convnext(),
}

# Where each has its classifier, of a row for each class.
_CLASSIFIERS = {
    "timm_vit": "head",
    "torchvision_vit": "heads.head",
    "timm_convnext": "head.fc",
    "torchvision_convnext": "classifier.2",
}

# Names that only this backbone has.
_MARKS = {
    "timm_vit": ("cls_token", "blocks.0.attn.qkv.weight"),
    "torchvision_vit": ("encoder.pos_embedding",),
    "timm_convnext": ("stages.0.blocks.0.conv_dw.weight",),
    "torchvision_convnext": ("features.1.0.layer_scale",),
}


def detect_backbone(names: Collection[str]) -> str | None:
    """Which of `BACKBONES` a state dict's names belong to; None if to none of them."""
    return next((layout for layout, marks in _MARKS.items() if all(mark in names for mark in marks)), None)


def classifier(layout: str) -> list[Rule]:
    """The one-hot head of a layout."""
    torch = _CLASSIFIERS[layout]
    return [Rule(f"{torch}.weight", f"{_HEAD}/kernel", "table"), Rule(f"{torch}.bias", f"{_HEAD}/bias", "table")]
