"""Times the train step of each head on one backbone, and what the loop adds to the bare step.

    PYTHONPATH=. python tests/benchmarks/steps.py --config=configs/glyphs_mhp.py --steps=30 --rounds=5

All candidates take turns in one process, so that a busy machine slows them alike; the ratios are the result.
"""

import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from mhe_jax.data.build import build_data
from mhe_jax.data.feeds import train_feed
from mhe_jax.recipes import heads
from mhe_jax.settings import Settings
from mhe_jax.train import experiment, left_to_data
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.optim import averages
from mhe_jax.train.optim.optimizer import build_optimizer
from mhe_jax.train.optim.schedules import build_schedule
from mhe_jax.train.parallel.mesh import CHUNK, make_mesh, place, replicate, shares
from mhe_jax.train.reporting import report, writers
from mhe_jax.train.state import abstract_state, create_state
from mhe_jax.train.step import StepOptions, compile_train_program, make_train_step

FLAGS = flags.FLAGS


class BareStep:
    """The jitted step of one head, called with data that already lie on the device; `sums` are the last step's."""

    def __init__(self, config: ConfigDict, head: dict, data, images):
        settings = Settings.from_config(config)
        mesh = make_mesh(settings.mesh)
        feed = train_feed(images.train, settings.global_batch_size, seed=0, **shares(mesh))
        task = experiment.build_task(settings, ConfigDict(head), data, data.num_classes)
        schedule = build_schedule(settings.schedule, 1000, 100)
        sparse = task.head.sparse_tables()
        optimizer = build_optimizer(settings.optimizer, schedule, None, settings.table_optimizer, sparse)
        rule = averages.build_average(settings.average, 100)
        abstract = abstract_state(task, optimizer, rule, mesh)
        self.state = create_state(task, optimizer, rule, abstract, settings.seed)
        step = make_train_step(task, optimizer, rule, StepOptions(log_every_steps=settings.log_every_steps))
        self.program = compile_train_program(step, feed.batch, 1, abstract)
        self.arguments = replicate(mesh, feed.resident), place(mesh, feed.chunk(0, 1), CHUNK), np.int32(1)
        memory = self.program.lower(self.state, *self.arguments).compile().memory_analysis()
        self.memory = sum(report.memory_bytes(memory).values())
        self.parameters = report.parameter_count(abstract.params["head"])
        self.sizes = task.head.label_space.head_sizes
        self.run(2)

    def run(self, steps: int) -> float:
        """Seconds per step."""
        started = time.perf_counter()
        for _ in range(steps):
            self.state, self.sums = self.program(self.state, *self.arguments)
        jax.block_until_ready((self.state, self.sums))
        return (time.perf_counter() - started) / steps


def loop_seconds(config: ConfigDict, steps: int) -> float:
    """Seconds per step of the whole loop, with metrics, over windows after the first."""
    config = config.copy_and_resolve_references()
    config.total_steps, config.log_every_steps = steps + 10, 10
    config.eval_every_epochs = config.checkpoint_every_epochs = 0.0
    with tempfile.TemporaryDirectory() as folder:
        train_and_evaluate(config, folder)
        events = writers.read_events(pathlib.Path(folder) / "metrics.jsonl")
    rates = [e["examples_per_second"] for e in events if e["split"] == "train"][1:]
    return config.global_batch_size * statistics.mean(1 / rate for rate in rates)


def main(_: list[str]) -> None:
    config = FLAGS.config
    data = build_data(config.data)
    images = data.load()
    config = left_to_data.by_data(config, data, images.train.num_examples, jax.device_count())
    sections = {"ohe": heads.ohe(), "mhp": heads.mhp(), "mhc": heads.mhc(), "mhs": heads.mhs()}
    sections[config.head.name] = config.head.to_dict()
    with jax.set_mesh(make_mesh(config.mesh)):
        bare = {name: BareStep(config, section, data, images) for name, section in sections.items()}
        times: dict[str, list[float]] = {name: [] for name in bare}
        for _ in range(FLAGS.rounds):
            for name, step in bare.items():
                times[name].append(step.run(FLAGS.steps))
    base = statistics.median(times["ohe"])
    print(f"{'head':5}{'head_sizes':>12}{'head parameters':>17}{'ms/step':>10}{'to ohe':>8}{'step memory':>15}")
    for name, step in bare.items():
        middle, sizes = statistics.median(times[name]), "x".join(map(str, step.sizes))
        row = f"{name:5}{sizes:>12}{step.parameters:>17,}{1e3 * middle:>10.1f}{middle / base:>8.2f}"
        print(row + f"{report.megabytes(step.memory):>15}")
    name, ratios = config.head.name, []
    for _ in range(2):
        with jax.set_mesh(make_mesh(config.mesh)):
            before = bare[name].run(5 * FLAGS.steps)
        loop = loop_seconds(config, 5 * FLAGS.steps)
        with jax.set_mesh(make_mesh(config.mesh)):
            after = bare[name].run(5 * FLAGS.steps)
        ratios.append((before + after) / 2 / loop)
        print(f"{name}: bare {1e3 * before:.1f}, loop {1e3 * loop:.1f}, bare {1e3 * after:.1f} ms/step")
    print(f"bare step / loop: {', '.join(f'{ratio:.3f}' for ratio in ratios)}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The config whose data, backbone and optimizer are used.")
    flags.DEFINE_integer("steps", 30, "Steps of each turn.")
    flags.DEFINE_integer("rounds", 5, "Turns of each head.")
    flags.mark_flag_as_required("config")
    app.run(main)
