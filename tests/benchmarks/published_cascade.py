"""Times a step of the cascade for many labels beside the published one's work in PyTorch, at its sizes for Amazon-670K.

    PYTHONPATH=. python tests/benchmarks/published_cascade.py --steps=3

The heads alone, on features that are given and whose gradient is made: 8,377 groups of 80 labels, the 75 best groups of
each document, hidden 400, 3,840 features, 32 documents. They take turns in one process. Only times are compared:
tests/parity has the numbers.
"""

import jax.numpy as jnp
import numpy as np
import optax
import torch
from absl import app, flags

from mhe_jax.heads import build_head
from mhe_jax.train.optim.table_rules import SGD, AdamW, Rule
from tests.benchmarks.heads_alone import HeadStep, in_turns

FLAGS = flags.FLAGS
GROUPS, SIZE, KEPT, HIDDEN, FEATURES, BATCH, LABELS = 8377, 80, 75, 400, 3840, 32, 5
CLASSES = GROUPS * SIZE


def batch():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(BATCH, FEATURES)).astype(np.float32)
    return features, np.stack([rng.choice(CLASSES, LABELS, replace=False) for _ in range(BATCH)]).astype(np.int32)


class Published:
    """Group logits, the best groups with the true ones among them, embeddings of their labels, two losses, AdamW."""

    def __init__(self):
        self.groups, self.project = torch.nn.Linear(FEATURES, GROUPS), torch.nn.Linear(FEATURES, HIDDEN)
        self.embedding = torch.nn.Embedding(CLASSES, HIDDEN)
        torch.nn.init.xavier_uniform_(self.embedding.weight)
        modules = (self.groups, self.project, self.embedding)
        self.optimizer = torch.optim.AdamW([p for module in modules for p in module.parameters()], lr=1e-4)
        features, labels = batch()
        self.features = torch.from_numpy(features).requires_grad_()
        self.labels = torch.from_numpy(labels).long()

    def step(self):
        logits, true = self.groups(self.features), self.labels // SIZE
        of_groups = torch.zeros_like(logits).scatter_(1, true, 1.0)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, of_groups)
        kept = (logits.detach().sigmoid() + of_groups).topk(KEPT, dim=1).indices
        candidates = (kept[:, :, None] * SIZE + torch.arange(SIZE)).reshape(BATCH, -1)
        targets = (candidates[:, :, None] == self.labels[:, None, :]).any(dim=2).float()
        scores = torch.bmm(self.embedding(candidates), self.project(self.features)[:, :, None])[:, :, 0]
        loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(scores, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def ours(of_table: Rule | None = None) -> HeadStep:
    """The same with AdamW for all parameters, or with the table moved by the loss, by a rule of its own."""
    fields = {"num_candidates": KEPT, "hidden_dim": HIDDEN, "head_sizes": (GROUPS, SIZE)}
    head = build_head("mhc", num_classes=CLASSES, features_dim=FEATURES, kind="multilabel", **fields)
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
    flags.DEFINE_integer("steps", 3, "Steps of each turn.")
    flags.DEFINE_integer("rounds", 3, "Turns of each.")
    app.run(main)
