"""Independent PyTorch versions of the networks and classifiers, with the published parameter names.

Only tests import this module.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Basic or bottleneck residual block, `skip` being the name of its shortcut."""

    def __init__(self, inputs, width, stride, bottleneck, skip):
        super().__init__()
        if bottleneck:
            shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
        else:
            shapes = [(inputs, width, 3, stride), (width, width, 3, 1)]
        self.count, self.skip = len(shapes), skip
        for i, (c_in, c_out, k, s) in enumerate(shapes, 1):
            self.add_module(f"conv{i}", nn.Conv2d(c_in, c_out, k, stride=s, padding=k // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(c_out))
        self.outputs = shapes[-1][1]
        if stride != 1 or inputs != self.outputs:
            projection = nn.Conv2d(inputs, self.outputs, 1, stride=stride, bias=False)
            self.add_module(skip, nn.Sequential(projection, nn.BatchNorm2d(self.outputs)))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        x = getattr(self, self.skip)(x) if hasattr(self, self.skip) else x
        return F.relu(x + y)


def stages(counts, bottleneck, skip):
    inputs, result = 64, []
    for stage, count in enumerate(counts):
        blocks = []
        for i in range(count):
            blocks.append(Block(inputs, 64 << stage, 2 if stage and not i else 1, bottleneck, skip))
            inputs = blocks[-1].outputs
        result.append(nn.Sequential(*blocks))
    return result


COUNTS = {18: ([2, 2, 2, 2], False), 34: ([3, 4, 6, 3], False), 50: ([3, 4, 6, 3], True)}


def head_modules(head, sizes, dim, hidden=8):
    """The classifier's parameters, under the reference's names (torchvision's for 'ohe')."""
    if head == "ohe":
        return {"fc": nn.Linear(dim, sizes[0])}
    if head == "mhp":
        return {"classifier": nn.Linear(dim, sum(sizes))}
    if head == "mhs":
        return {"weight": nn.Parameter(torch.randn(*sizes, dim) * 0.01)}
    modules, nodes = {"group": nn.Linear(dim, sizes[0])}, sizes[0]
    for level, size in enumerate(sizes[1:], 1):
        number = level if len(sizes) > 2 else ""
        nodes *= size
        modules[f"classifier{number}"] = nn.Linear(dim, hidden)
        modules[f"embed{number}"] = nn.Embedding(nodes, hidden)
    return modules


class Classifier(nn.Module):
    """A classifier alone; its parameters have the names that they have in a whole model."""

    def __init__(self, head, sizes, dim, hidden=8):
        super().__init__()
        for name, module in head_modules(head, sizes, dim, hidden).items():
            setattr(self, name, module)


class Model(Classifier):
    """A backbone, and the parameters of a classifier, in one of the three published layouts.

    Maps images to features.
    """

    def __init__(self, layout, depth, head=None, sizes=(), hidden=8):
        counts, bottleneck = COUNTS[depth]
        if head:
            super().__init__(head, sizes, 2048 if bottleneck else 512, hidden)
        else:
            nn.Module.__init__(self)
        self.layout = layout
        cifar = layout == "reference_cifar"
        stem = nn.Conv2d(3, 64, 3, padding=1, bias=False) if cifar else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        body = stages(counts, bottleneck, "shortcut" if cifar else "downsample")
        if layout == "reference_imagenet":  # net.0 .. net.7
            self.net = nn.Sequential(stem, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *body)
            return
        self.conv1, self.bn1 = stem, nn.BatchNorm2d(64)
        self.layer1, self.layer2, self.layer3, self.layer4 = body

    def forward(self, x):
        if self.layout == "reference_imagenet":
            return self.net(x).mean((2, 3))
        x = F.relu(self.bn1(self.conv1(x)))
        x = x if self.layout == "reference_cifar" else F.max_pool2d(x, 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))
