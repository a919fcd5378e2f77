"""The published text model in PyTorch, on one GPU and on several, with its parameter names. Only tests import this."""

import torch
from torch import nn


class TextModel(nn.Module):
    """`encoder.*, l0.*` with one logit per label; with groups also `l1.*, embed.weight`.

    Maps hidden states to features and the logits of `l0`.
    """

    names = ("bert", "l0", "l1", "embed")

    def __init__(self, encoder, num_labels, num_groups=None, hidden=7, feature_layers=2):
        super().__init__()
        self.feature_layers = feature_layers
        width = feature_layers * encoder.config.hidden_size
        modules = [encoder, nn.Linear(width, num_groups or num_labels)]
        if num_groups:
            modules += [nn.Linear(width, hidden), nn.Embedding(self.rows(num_labels, num_groups), hidden)]
        for name, module in zip(self.names, modules, strict=False):
            self.add_module(name, module)

    def rows(self, num_labels, num_groups):
        return num_labels

    def part(self, index):
        return getattr(self, self.names[index])

    def forward(self, states):
        features = torch.cat([states[-i][:, 0] for i in range(1, self.feature_layers + 1)], dim=-1)
        return features, self.part(1)(features)

    def label_logits(self, features, labels):
        """Logits of one label per row."""
        return (self.part(2)(features) * self.part(3)(labels)).sum(-1)


class MultiGpuTextModel(TextModel):
    """With a LayerNorm that is never called, and an embedding more where the last group is short."""

    names = ("model", "group_classifer", "sub_classifer", "embedding")

    def __init__(self, encoder, num_labels, num_groups, hidden=7, feature_layers=2):
        super().__init__(encoder, num_labels, num_groups, hidden, feature_layers)
        self.norm = nn.LayerNorm(feature_layers * encoder.config.hidden_size)

    def rows(self, num_labels, num_groups):
        return num_labels + (num_labels % -(-num_labels // num_groups) > 0)
