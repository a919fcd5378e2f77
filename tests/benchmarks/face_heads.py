"""Times a train step with 2,000,000 identities: all of them, a tenth (PartialFC), and the groups of the batch (MHS).

    PYTHONPATH=. python tests/benchmarks/face_heads.py --steps=3

A small network on synthetic 32x32 pictures, embeddings of 512 dimensions, SGD with momentum, so that the heads decide;
they take turns in one process, one in memory at a time. Memory is what the compiled step needs for state, batch and
temporaries; coverage is the share of the groups that a step trains.
"""

import gc
import statistics

import jax
import numpy as np
from absl import app, flags

from mhe_jax.data.build import build_data
from mhe_jax.recipes import heads
from mhe_jax.recipes.base import base_config
from mhe_jax.train.parallel.mesh import make_mesh
from mhe_jax.train.reporting import report
from tests.benchmarks.steps import BareStep

FLAGS = flags.FLAGS


def make_config(table_optimizer: str):
    config = base_config()
    config.data = {
        "name": "face_synthetic",
        "num_classes": FLAGS.identities,
        "image_shape": (32, 32, 3),
        "num_examples": 4096,
    }
    config.backbone = {"name": "convnet", "features_dim": 512, "widths": (16, 32), "activate_features": False}
    config.head = heads.face_ohe()
    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "decay_all": True}
    config.schedule = {"name": "constant", "learning_rate": 0.1}
    sparse = dict(heads.FACE_SPARSE_TABLES)
    config.table_optimizer = sparse if table_optimizer == "sgd" else {"name": "none"}
    config.total_steps, config.global_batch_size, config.log_every_steps = 1000, FLAGS.batch, 1
    return config


def main(_: list[str]) -> None:
    candidates = {
        "full": (heads.face_ohe(), "none"),
        "partial 0.1, row-sparse": (heads.face_partial(), "sgd"),
        "mhs": (heads.face_mhs(), "none"),
        "mhs, row-sparse": (heads.face_mhs(), "sgd"),
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
                total, count = np.asarray(step.sums.get("coverage", (1, 1)))
                facts[name] = (step.sizes, step.memory, total / count)
            del step
            gc.collect()
    base = statistics.median(times["full"])
    print(f"{'head':26}{'head_sizes':>14}{'coverage':>10}{'ms/step':>10}{'to full':>9}{'step memory':>15}")
    for name, (sizes, memory, coverage) in facts.items():
        middle, shape = statistics.median(times[name]), "x".join(map(str, sizes))
        row = f"{name:26}{shape:>14}{coverage:>10.3f}{1e3 * middle:>10.1f}{middle / base:>9.2f}"
        print(row + f"{report.megabytes(memory):>15}")


if __name__ == "__main__":
    flags.DEFINE_integer("identities", 2_000_000, "Identities.")
    flags.DEFINE_integer("steps", 3, "Steps of each turn.")
    flags.DEFINE_integer("rounds", 2, "Turns of each head.")
    flags.DEFINE_integer("batch", 64, "Pictures per step.")
    app.run(main)
