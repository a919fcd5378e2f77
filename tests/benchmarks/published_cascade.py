"""Times a step of the cascade for many labels beside the published one's work in PyTorch.

    PYTHONPATH=. python tests/benchmarks/published_cascade.py --steps=3 --sizes=8377,80,75,400,3840,32
    PYTHONPATH=. python tests/benchmarks/published_cascade.py --steps=50 --sizes=172,23,10,300,3840,16

The heads alone, on features that are given and whose gradient is made. The first are the published sizes for
Amazon-670K: 8,377 groups of 80 labels, the 75 best groups of each document, hidden 400, 3,840 features, 32 documents;
the second those for EURLEX-4K. They take turns in one process. Only times are compared:
tests/parity has the numbers.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import torch
from absl import app, flags

from mhe_jax.heads import build_head
from mhe_jax.train.optim.table_rules import SGD, AdamW, Rule
from tests.benchmarks.heads_alone import HeadStep, in_turns

FLAGS = flags.FLAGS
LABELS = 5


class Sizes(NamedTuple):
    """Of `--sizes`: groups, labels of each, groups that a document is compared with, hidden units, features, batch."""

    groups: int
    size: int
    kept: int
    hidden: int
    features: int
    batch: int


def sizes() -> Sizes:
    return Sizes(*map(int, FLAGS.sizes))


def batch():
    of, rng = sizes(), np.random.default_rng(0)
    features = rng.normal(size=(of.batch, of.features)).astype(np.float32)
    labels = [rng.choice(of.groups * of.size, LABELS, replace=False) for _ in range(of.batch)]
    return features, np.stack(labels).astype(np.int32)


class Published:
    """Group logits, the best groups with the true ones among them, embeddings of their labels, two losses, AdamW."""

    def __init__(self):
        self.of = of = sizes()
        self.groups = torch.nn.Linear(of.features, of.groups)
        self.project = torch.nn.Linear(of.features, of.hidden)
        self.embedding = torch.nn.Embedding(of.groups * of.size, of.hidden)
        torch.nn.init.xavier_uniform_(self.embedding.weight)
        modules = (self.groups, self.project, self.embedding)
        self.optimizer = torch.optim.AdamW([p for module in modules for p in module.parameters()], lr=1e-4)
        features, labels = batch()
        self.features = torch.from_numpy(features).requires_grad_()
        self.labels = torch.from_numpy(labels).long()

    def step(self):
        logits, true = self.groups(self.features), self.labels // self.of.size
        of_groups = torch.zeros_like(logits).scatter_(1, true, 1.0)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, of_groups)
        kept = (logits.detach().sigmoid() + of_groups).topk(self.of.kept, dim=1).indices
        candidates = (kept[:, :, None] * self.of.size + torch.arange(self.of.size)).reshape(self.of.batch, -1)
        targets = (candidates[:, :, None] == self.labels[:, None, :]).any(dim=2).float()
        scores = torch.bmm(self.embedding(candidates), self.project(self.features)[:, :, None])[:, :, 0]
        loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(scores, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def ours(of_table: Rule | None = None) -> HeadStep:
    """The same with AdamW for all parameters, or with the table moved by the loss, by a rule of its own."""
    of = sizes()
    fields = {"num_candidates": of.kept, "hidden_dim": of.hidden, "head_sizes": (of.groups, of.size)}
    head = build_head("mhc", num_classes=of.groups * of.size, features_dim=of.features, kind="multilabel", **fields)
    features, labels = map(jnp.asarray, batch())
    return HeadStep(head, features, labels, optax.adamw(1e-4), 1e-4, of_table)


def main(_: list[str]) -> None:
    candidates = {
        "PyTorch, AdamW": Published,
        "mhc, AdamW": ours,
        "mhc, its table owned, SGD": lambda: ours(SGD(updates="owned")),
        "mhc, its table owned, AdamW": lambda: ours(AdamW(updates="owned")),
    }
    in_turns(candidates, FLAGS.rounds, FLAGS.steps)


if __name__ == "__main__":
    flags.DEFINE_list("sizes", "8377,80,75,400,3840,32", "See `Sizes`.")
    flags.DEFINE_integer("steps", 3, "Steps of each turn.")
    flags.DEFINE_integer("rounds", 3, "Turns of each.")
    app.run(main)
