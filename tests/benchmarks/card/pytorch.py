"""The same models in compiled PyTorch, as its users train them: bfloat16 autocast, channels last, fused optimizer.

    PYTHONPATH=. python tests/benchmarks/card/pytorch.py --model=resnet50 --batch=256 --turns=/tmp/turns \
        --output=card.jsonl

Weights and the batch, which lies on the device, are random.
"""

import argparse
import json
import os
import pathlib
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

from tests.benchmarks.card.turns import alone, compiling
from tests.parity.torch_faces import IResNet

LABELS, TOKENS = 4197, 512  # of EURLEX57K
PEOPLE = 93_431  # of MS1MV3


class ResNet(nn.Module):
    """ResNet-50 and softmax over 1,000 classes."""

    def __init__(self):
        super().__init__()
        import torchvision

        self.network = torchvision.models.resnet50()

    def forward(self, images, labels):
        return F.cross_entropy(self.network(as_floats(images)).float(), labels)

    @staticmethod
    def batch(size, device):
        return pictures(size, 224, device), torch.randint(0, 1000, (size,), device=device)


class Faces(nn.Module):
    """iresnet50 and ArcFace over all people."""

    def __init__(self):
        super().__init__()
        self.network, self.weight = IResNet((3, 4, 14, 3), (112, 112)), nn.Parameter(0.01 * torch.randn(PEOPLE, 512))

    def forward(self, images, labels):
        features = F.normalize(self.network(as_floats(images)).float())
        cosine = F.linear(features.bfloat16(), F.normalize(self.weight).bfloat16()).float().clamp(-1, 1)
        own = cosine.gather(1, labels[:, None])
        margin = torch.where(own > 0, torch.cos(torch.acos(own.clamp(-1 + 1e-6, 1 - 1e-6)) + 0.5), own)
        return F.cross_entropy(64.0 * cosine.scatter(1, labels[:, None], margin), labels)

    @staticmethod
    def batch(size, device):
        return pictures(size, 112, device), torch.randint(0, PEOPLE, (size,), device=device)


class Texts(nn.Module):
    """BERT-base, its last five layers' first tokens, and a sigmoid for each label (LightXML's encoder)."""

    def __init__(self):
        super().__init__()
        import transformers

        config = transformers.BertConfig(attn_implementation="sdpa")
        self.network = transformers.BertModel(config, add_pooling_layer=False)
        self.classifier, self.dropout = nn.Linear(5 * 768, LABELS), nn.Dropout(0.5)

    def forward(self, ids, targets):
        states = self.network(input_ids=ids, output_hidden_states=True).hidden_states
        features = torch.cat([states[-i][:, 0] for i in range(1, 6)], dim=1)
        return F.binary_cross_entropy_with_logits(self.classifier(self.dropout(features)).float(), targets)

    @staticmethod
    def batch(size, device):
        targets = torch.zeros(size, LABELS, device=device)
        targets.scatter_(1, torch.randint(0, LABELS, (size, 5), device=device), 1.0)
        return torch.randint(0, 30_000, (size, TOKENS), device=device), targets


MODELS = {"resnet50": ResNet, "iresnet50": Faces, "bert": Texts}


def pictures(size, side, device):
    images = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8, device=device)
    return images.contiguous(memory_format=torch.channels_last)


def as_floats(images):
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, choices=MODELS)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--turns", required=True, help="file that the programs of one card lock")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON lines")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of three measurements")
    options = parser.parse_args()
    lock = compiling(options.turns)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    kind = MODELS[options.model]
    model = kind().to(device)
    if options.model != "bert":
        model = model.to(memory_format=torch.channels_last)
    rule = torch.optim.AdamW if options.model == "bert" else torch.optim.SGD
    more = {} if options.model == "bert" else {"momentum": 0.9}
    optimizer = rule(model.parameters(), lr=1e-4, weight_decay=1e-4, fused=True, **more)
    compiled, batch, started = torch.compile(model), kind.batch(options.batch, device), time.monotonic()

    def step():
        with torch.autocast(device, torch.bfloat16):
            loss = compiled(*batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def run(steps):
        begun = time.perf_counter()
        for _ in range(steps):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) / steps

    run(2)
    seconds = time.monotonic() - started
    if device == "cuda":
        torch.cuda.empty_cache()
    os.close(lock)
    with alone(options.turns):
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        run(2)
        steps = max(2, int(options.seconds / run(2)))
        times = [run(steps) for _ in range(3)]
    row = {
        "model": options.model,
        "batch": options.batch,
        "peak": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "examples_per_second": options.batch / statistics.median(times),
        "spread": (max(times) - min(times)) / statistics.median(times),
        "compile_seconds": round(seconds),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }
    print(json.dumps(row))
    with options.output.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
