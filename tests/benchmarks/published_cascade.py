"""Times a step of the cascade for many labels beside the published one's work in PyTorch, at its sizes for Amazon-670K.

    PYTHONPATH=. python tests/benchmarks/published_cascade.py --steps=3

The heads alone, on features that are given and whose gradient is made: 8,377 groups of 80 labels, the 75 best groups of
each document, hidden 400, 3,840 features, 32 documents. The three take turns in one process. Only times are compared:
tests/parity has the numbers.
"""

import gc
import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from absl import app, flags

from mhe_jax.heads import build_head
from mhe_jax.heads.base import Context
from mhe_jax.ops.owned import SGD, Visit

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


class Ours:
    """The same with AdamW for all parameters, or with the table moved by the loss."""

    def __init__(self, owned: bool):
        fields = {"num_candidates": KEPT, "hidden_dim": HIDDEN, "head_sizes": (GROUPS, SIZE)}
        head = build_head("mhc", num_classes=CLASSES, features_dim=FEATURES, kind="multilabel", **fields)
        features, labels = map(jnp.asarray, batch())
        params = nn.unbox(jax.jit(head.init)(jax.random.key(0), features, labels)["params"])
        rule, key = optax.adamw(1e-4), jnp.zeros(2, jnp.uint32)
        self.table = params.pop("table_1") if owned else None

        def loss(params, features, table):
            tables = {} if table is None else {"table_1": table}
            visits = {name: Visit(SGD(), jnp.float32(1e-4), key, {}) for name in tables}
            variables = {"params": {**params, **tables}}
            return head.apply(variables, features, labels, Context(visits=visits), method="loss")[0].mean()

        def step(params, state, features, table):
            value, grads = jax.value_and_grad(loss, argnums=(0, 1, 2))(params, features, table)
            updates, state = rule.update(grads[0], state, params)
            return optax.apply_updates(params, updates), state, grads[1], grads[2], value

        self.params, self.state, self.features = params, rule.init(params), features
        self.program = jax.jit(step, donate_argnums=(0, 1, 3))

    def step(self):
        self.params, self.state, _, self.table, value = self.program(self.params, self.state, self.features, self.table)
        return float(jax.block_until_ready((self.params, self.table, value))[2])


def main(_: list[str]) -> None:
    candidates = {
        "PyTorch, AdamW": Published,
        "mhc, AdamW": lambda: Ours(owned=False),
        "mhc, its table owned": lambda: Ours(owned=True),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(FLAGS.rounds):
        for name, build in candidates.items():
            head = build()
            head.step()  # compiles, and touches all memory
            started = time.perf_counter()
            for _ in range(FLAGS.steps):
                head.step()
            times[name].append((time.perf_counter() - started) / FLAGS.steps)
            del head
            gc.collect()
    base = statistics.median(times["PyTorch, AdamW"])
    print(f"{'head':24}{'ms/step':>10}{'PyTorch / it':>14}")
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"{name:24}{1e3 * middle:>10.1f}{base / middle:>14.1f}")


if __name__ == "__main__":
    flags.DEFINE_integer("steps", 3, "Steps of each turn.")
    flags.DEFINE_integer("rounds", 3, "Turns of each.")
    app.run(main)
