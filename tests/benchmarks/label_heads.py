"""Times a train step with 670,091 labels: the one-hot head, and the cascade with a dense and a row-sparse optimizer.

    PYTHONPATH=. python tests/benchmarks/label_heads.py --steps=5

One encoder layer on synthetic documents, so that the heads decide; they take turns in one process, one in memory at a
time. Memory is what the compiled step needs for state, batch and temporaries. Last, what the host does per step: the
calls that Python's profiler counts while batches are made, at two batch sizes.
"""

import cProfile
import gc
import pstats
import statistics

import jax
from absl import app, flags

from mhe_jax.data.build import build_data
from mhe_jax.data.feeds import train_feed
from mhe_jax.recipes import heads
from mhe_jax.recipes.base import base_config
from mhe_jax.train.parallel.mesh import make_mesh
from mhe_jax.train.reporting import report
from tests.benchmarks.steps import BareStep

FLAGS = flags.FLAGS
flags.DEFINE_integer("labels", 670091, "Labels.")
flags.DEFINE_integer("steps", 5, "Steps of each turn.")
flags.DEFINE_integer("rounds", 3, "Turns of each head.")
flags.DEFINE_integer("batch", 32, "Documents per step.")


def make_config(table_optimizer: str):
    config = base_config()
    config.data = {"name": "synthetic_text", "num_classes": FLAGS.labels, "num_examples": 4096, "num_eval_examples": 64}
    width = {"hidden_size": 384, "num_layers": 1, "num_heads": 12, "intermediate_size": 1536, "max_positions": 32}
    config.backbone = {"name": "bert", "vocab_size": 0, **width, "pooling": "first", "feature_layers": 1}
    config.head = heads.xmc_ohe()
    config.optimizer = {"name": "adamw"}
    config.schedule = {"name": "constant", "learning_rate": 1e-4}
    config.table_optimizer = {"name": table_optimizer}
    config.total_steps, config.global_batch_size, config.log_every_steps = 1000, FLAGS.batch, 100
    return config


def cascade(groups: int) -> dict:
    """The published sizes for Amazon-670K: 75 of 8,377 groups of 80 labels, hidden 400."""
    return {**heads.xmc_mhc((groups, 0)), "hidden_dim": 400, "num_candidates": 75, "reduction": "mean"}


def host_calls(batch_size: int, steps: int = 50) -> int:
    """Python calls made per step to build a batch."""
    config = make_config("none")
    data = build_data(config.data)
    feed = train_feed(data.load().train, batch_size, seed=0)
    feed.chunk(0, 1)  # plans the epoch
    profile = cProfile.Profile()
    profile.enable()
    for step in range(1, min(steps, feed.steps_per_epoch)):
        feed.chunk(step, 1)
    profile.disable()
    return pstats.Stats(profile).total_calls // (min(steps, feed.steps_per_epoch) - 1)


def main(_: list[str]) -> None:
    groups = min(8400, FLAGS.labels)
    candidates = {
        "ohe, AdamW": (heads.xmc_ohe(), "none"),
        "mhc, AdamW": (cascade(groups), "none"),
        "mhc, row-sparse AdamW": (cascade(groups), "adamw"),
        "mhc, row-sparse SGD": (cascade(groups), "sgd"),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    facts = {}
    for _ in range(FLAGS.rounds):
        for name, (section, rule) in candidates.items():
            config = make_config(rule)
            data = build_data(config.data)
            with jax.set_mesh(make_mesh(config.mesh)):
                step = BareStep(config, section, data, data.load())
                times[name].append(step.run(FLAGS.steps))
                facts[name] = (step.sizes, step.parameters, step.memory)
            del step
            gc.collect()
    base = statistics.median(times["ohe, AdamW"])
    print(f"{'head':24}{'head_sizes':>12}{'head parameters':>17}{'ms/step':>10}{'to ohe':>8}{'step memory':>15}")
    for name, (sizes, parameters, memory) in facts.items():
        middle, shape = statistics.median(times[name]), "x".join(map(str, sizes))
        row = f"{name:24}{shape:>12}{parameters:>17,}{1e3 * middle:>10.1f}{middle / base:>8.2f}"
        print(row + f"{report.megabytes(memory):>15}")
    print("Python calls per batch:", {size: host_calls(size) for size in (32, 256)})


if __name__ == "__main__":
    app.run(main)
