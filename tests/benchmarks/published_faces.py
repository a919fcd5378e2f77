"""Times a step of the sampled head for faces beside the published one's work in PyTorch, and beside full softmaxes.

    PYTHONPATH=. python tests/benchmarks/published_faces.py --groups=43 --size=1994

The heads alone, on embeddings that are given and whose gradient is made: ArcFace among the members of the batch's
groups (the published `B1`), 128 embeddings of 512 numbers, SGD with momentum .9 and decay. 43 x 1994 are the published
digits of MS1MV2. They take turns in one process. Only times are compared: tests/parity has the numbers.
"""

import math

import jax.numpy as jnp
import numpy as np
import optax
import torch
from absl import app, flags

from mhe_jax.heads import build_head
from mhe_jax.train.optim.table_rules import SGD, Rule
from tests.benchmarks.heads_alone import HeadStep, in_turns

FLAGS = flags.FLAGS
FEATURES, BATCH, MARGIN, SCALE, RATE, MOMENTUM, DECAY = 512, 128, 0.5, 64.0, 0.01, 0.9, 5e-4


def batch():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(BATCH, FEATURES)).astype(np.float32)
    return features, rng.integers(FLAGS.groups * FLAGS.size, size=BATCH).astype(np.int32)


class Published:
    """Cosines with the members of the batch's distinct groups, a margin on each embedding's own, SGD for all rows."""

    def __init__(self):
        self.weight = torch.nn.Parameter(0.01 * torch.randn(FLAGS.groups, FLAGS.size, FEATURES))
        self.optimizer = torch.optim.SGD([self.weight], lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
        features, labels = batch()
        self.features = torch.from_numpy(features).requires_grad_()
        self.labels = torch.from_numpy(labels).long()

    def step(self):
        of_group, member = self.labels // FLAGS.size, self.labels % FLAGS.size
        groups = torch.unique(of_group)
        rows = torch.nn.functional.normalize(self.weight[groups].reshape(-1, FEATURES))
        cosines = torch.nn.functional.linear(torch.nn.functional.normalize(self.features), rows)
        own = torch.searchsorted(groups, of_group) * FLAGS.size + member
        cosine = cosines.gather(1, own[:, None])
        sine = (1 - cosine**2).clamp(min=0).sqrt()
        moved = cosine * math.cos(MARGIN) - sine * math.sin(MARGIN)
        moved = torch.where(cosine > math.cos(math.pi - MARGIN), moved, cosine - math.sin(math.pi - MARGIN) * MARGIN)
        is_own = torch.zeros_like(cosines).scatter_(1, own[:, None], 1.0)
        logits = SCALE * (is_own * moved + (1 - is_own) * cosines)
        loss = torch.nn.functional.cross_entropy(logits, own)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def ours(name: str, of_table: Rule | None, **fields) -> HeadStep:
    """A head on cosines with SGD for all rows, or with its table owned."""
    head = build_head(
        name,
        num_classes=FLAGS.groups * FLAGS.size,
        features_dim=FEATURES,
        margin={"name": "arcface", "m": MARGIN, "scale": SCALE},
        **fields,
    )
    features, labels = map(jnp.asarray, batch())
    rule = optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, MOMENTUM))
    return HeadStep(head, features, labels, rule, RATE, of_table)


def main(_: list[str]) -> None:
    with_momentum = SGD(updates="owned", momentum=MOMENTUM, weight_decay=DECAY)
    without = SGD(updates="owned", rate=10.0, weight_decay=DECAY)
    sampled = {"head_sizes": (FLAGS.groups, FLAGS.size), "sampler": {"name": "batch_union"}}
    candidates = {
        "PyTorch, B1": Published,
        "mhs": lambda: ours("mhs", None, **sampled),
        "mhs, owned, momentum": lambda: ours("mhs", with_momentum, **sampled),
        "mhs, owned": lambda: ours("mhs", without, **sampled),
        "full softmax": lambda: ours("ohe", None),
        "full softmax, owned, momentum": lambda: ours("ohe", with_momentum),
        "full softmax, owned": lambda: ours("ohe", without),
    }
    in_turns(candidates, FLAGS.rounds, FLAGS.steps)


if __name__ == "__main__":
    flags.DEFINE_integer("groups", 43, "Digits of the first head.")
    flags.DEFINE_integer("size", 1994, "Identities of a group.")
    flags.DEFINE_integer("steps", 4, "Steps of each turn.")
    flags.DEFINE_integer("rounds", 3, "Turns of each.")
    app.run(main)
