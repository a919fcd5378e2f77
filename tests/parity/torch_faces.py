"""Independent PyTorch versions of the backbones for faces, with the published parameter names.

Only tests import this module.
"""

from math import ceil

import torch
from torch import nn


class ResidualBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.bn2, self.prelu = nn.BatchNorm2d(width), nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)
        self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width)) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + self.downsample(x)


class IResNet(nn.Module):
    """iresnet: images [B, C, H, W] to embeddings."""

    def __init__(self, counts, size, channels=3, features=512):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        inputs = 64
        for stage, count in enumerate(counts):
            width = 64 << stage
            blocks = [ResidualBlock(inputs if i == 0 else width, width, 2 if i == 0 else 1) for i in range(count)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            inputs = width
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * ceil(size[0] / 16) * ceil(size[1] / 16), features)
        self.features = nn.BatchNorm1d(features)
        self.features.weight.requires_grad = False

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(self.bn2(x).flatten(1)))


class ConvBlock(nn.Module):
    def __init__(self, inputs, outputs, kernel=1, stride=1, padding=0, groups=1, active=True):
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.layers = nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.PReLU(outputs)] if active else []))

    def forward(self, x):
        return self.layers(x)


class InvertedBlock(nn.Module):
    def __init__(self, inputs, outputs, width, stride):
        super().__init__()
        self.layers = nn.Sequential(
            ConvBlock(inputs, width),
            ConvBlock(width, width, 3, stride, 1, groups=width),
            ConvBlock(width, outputs, active=False),
        )
        self.residual = stride == 1

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


class Stack(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class MobileFaceNet(nn.Module):
    """mobilefacenet: images [B, C, H, W] to embeddings."""

    def __init__(self, size, scale=2, channels=3, features=512):
        super().__init__()
        narrow, middle = 64 * scale, 128 * scale
        self.layers = nn.ModuleList(
            [
                ConvBlock(channels, narrow, 3, 2, 1),
                ConvBlock(narrow, narrow, 3, 1, 1, groups=64),
                InvertedBlock(narrow, narrow, 128, 2),
                Stack(*(InvertedBlock(narrow, narrow, 128, 1) for _ in range(4))),
                InvertedBlock(narrow, middle, 256, 2),
                Stack(*(InvertedBlock(middle, middle, 256, 1) for _ in range(6))),
                InvertedBlock(middle, middle, 512, 2),
                Stack(*(InvertedBlock(middle, middle, 256, 1) for _ in range(2))),
            ]
        )
        self.conv_sep = ConvBlock(middle, 512)
        places = (ceil(size[0] / 16), ceil(size[1] / 16))
        self.features = Stack(
            ConvBlock(512, 512, places, groups=512, active=False),
            nn.Flatten(),
            nn.Linear(512, features, bias=False),
            nn.BatchNorm1d(features),
        )

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.features(self.conv_sep(x))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2))
        weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=3)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(nn.functional.relu6(self.fc1(x)))


class TransformerBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), Perceptron(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, channels, width, patch):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class FaceViT(nn.Module):
    """vit, without its masking of patches: images [B, C, H, W] to embeddings."""

    def __init__(self, size, width, depth, heads, patch=9, channels=3, features=512):
        super().__init__()
        count = (size[0] // patch) * (size[1] // patch)
        self.patch_embed = PatchEmbed(channels, width, patch)
        self.pos_embed = nn.Parameter(torch.randn(1, count, width) * 0.02)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks = nn.ModuleList([TransformerBlock(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(width * count, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, features, bias=False),
            nn.BatchNorm1d(features, eps=2e-5),
        )

    def forward(self, x):
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.feature(self.norm(x).flatten(1))
