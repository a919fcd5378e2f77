"""ViT and ConvNeXt of Hugging Face transformers, with the names that timm has for their parameters."""

import re

import numpy as np
import torch
import transformers

_NAMES = (
    # ViT.
    (r"vit\.embeddings\.cls_token", "cls_token"),
    (r"vit\.embeddings\.position_embeddings", "pos_embed"),
    (r"vit\.embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"vit\.layers\.(\d+)\.attention\.o_proj", r"blocks.\1.attn.proj"),
    (r"vit\.layers\.(\d+)\.attention\.([qkv])_proj", r"blocks.\1.attn.\2"),
    (r"vit\.layers\.(\d+)\.layernorm_before", r"blocks.\1.norm1"),
    (r"vit\.layers\.(\d+)\.layernorm_after", r"blocks.\1.norm2"),
    (r"vit\.layers\.(\d+)\.mlp", r"blocks.\1.mlp"),
    (r"vit\.layernorm", "norm"),
    # ConvNeXt.
    (r"convnext\.embeddings\.patch_embeddings", "stem.0"),
    (r"convnext\.embeddings\.layernorm", "stem.1"),
    (r"convnext\.encoder\.stages\.(\d+)\.downsampling_layer", r"stages.\1.downsample"),
    (r"convnext\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer_scale_parameter", r"stages.\1.blocks.\2.gamma"),
    (r"convnext\.encoder\.stages\.(\d+)\.layers\.(\d+)\.dwconv", r"stages.\1.blocks.\2.conv_dw"),
    (r"convnext\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm", r"stages.\1.blocks.\2.norm"),
    (r"convnext\.encoder\.stages\.(\d+)\.layers\.(\d+)\.pwconv(\d)", r"stages.\1.blocks.\2.mlp.fc\3"),
    (r"convnext\.layernorm", "head.norm"),
)


class Logits(torch.nn.Module):
    """A model of transformers that returns its logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images).logits


def vit(width=24, depth=3):
    config = transformers.ViTConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=3,
        intermediate_size=4 * width,
        image_size=32,
        patch_size=8,
        num_labels=7,
        layer_norm_eps=1e-6,
    )
    return Logits(transformers.ViTForImageClassification(config))


def convnext():
    config = transformers.ConvNextConfig(
        depths=[1, 2, 1, 1], hidden_sizes=[8, 12, 16, 20], num_labels=7, layer_norm_eps=1e-6
    )
    return Logits(transformers.ConvNextForImageClassification(config))


def renamed(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict, or its gradients, with timm's names; queries, keys and values become one matrix."""
    found, head = {}, "head" if any(".vit." in name for name in state) else "head.fc"
    for name, array in state.items():
        name = name.removeprefix("model.").replace("classifier", head)
        for pattern, new in _NAMES:
            name, times = re.subn(f"^{pattern}", new, name)
            if times:
                break
        found[name] = array
    for name in [name for name in found if ".attn.q." in name]:
        parts = [found.pop(name.replace(".q.", f".{part}.")) for part in "qkv"]
        found[name.replace(".q.", ".qkv.")] = np.concatenate(parts)
    return found
