"""Norms of the parts of a model: what they are, and that they leave the training as it is."""

import contextlib
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from mhe_jax.data.build import build_data
from mhe_jax.data.feeds import train_feed
from mhe_jax.settings import NORMS, Settings
from mhe_jax.train import experiment
from mhe_jax.train.optim.optimizer import build_optimizer
from mhe_jax.train.optim.schedules import build_schedule
from mhe_jax.train.parallel.mesh import make_mesh, shares
from mhe_jax.train.state import abstract_state, create_state
from mhe_jax.train.step import StepOptions, make_train_step
from tests.field_runs import pictures, texts

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[3]
RATE = 0.05
PLAIN = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "nesterov": False}
CONSTANT = {"name": "constant", "learning_rate": RATE, "warmup_epochs": 0.0}
CASES = {
    "parts of a batch": lambda: pictures(optimizer=PLAIN, schedule=CONSTANT, accumulate_steps=2),
    "sparse tables": lambda: texts(optimizer=PLAIN, schedule=CONSTANT, table_optimizer={"name": "sgd"}),
}


def two_steps(config, kinds):
    """The parameters before, between and after two steps of which the second is logged, and the sums of both."""
    settings = Settings.from_config(config)
    mesh = make_mesh(settings.mesh)
    data = build_data(settings.data)
    splits = data.load()
    task = experiment.build_task(settings, settings.head, data, data.num_classes)
    optimizer = build_optimizer(
        settings.optimizer,
        build_schedule(settings.schedule, 6, 3),
        table_section=settings.table_optimizer,
        sparse_tables=task.head.sparse_tables(),
    )
    options = StepOptions(accumulate_steps=settings.accumulate_steps, log_every_steps=2, log_norms=kinds)
    feed = train_feed(splits.train, 32, seed=0, **shares(mesh, settings.accumulate_steps))
    with jax.set_mesh(mesh), contextlib.closing(feed):
        state = create_state(task, optimizer, None, abstract_state(task, optimizer, None, mesh), seed=0)
        piece = jax.tree.map(lambda rows: rows[0], feed.chunk(0, 1))
        step = jax.jit(make_train_step(task, optimizer, None, options))
        params, sums = [jax.device_get(state.params)], []
        for _ in range(2):
            state, found = step(state, feed.batch(feed.resident, piece))
            params.append(jax.device_get(state.params))
            sums.append(jax.device_get(found))
    return params, sums, optimizer.sparse


def norm(tree):
    return np.sqrt(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(tree)))


# Of `config.log_norms`' default.
SAME_BITS = """
import jax, numpy
from tests.train.reporting.test_norms import CASES, two_steps
jax.config.update("jax_num_cpu_devices", 2)
for make in CASES.values():
    config = make()
    plain, with_norms = (two_steps(config, kinds)[0] for kinds in ((), config.log_norms))
    jax.tree.map(numpy.testing.assert_array_equal, plain, with_norms)
print("the same")
"""


def test_the_norms_change_no_bit_of_the_parameters():
    """In a process with XLA's own way to compile loops, which takes a while: the tests' older one rounds otherwise."""
    flags = " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if "emitters" not in flag)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SAME_BITS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr[-3000:]


@pytest.mark.parametrize("case", CASES)
def test_norms_are_those_of_the_parts(case):
    config = CASES[case]()
    params, (first, second), sparse = two_steps(config, NORMS)
    assert bool(sparse) == (case == "sparse tables")

    names = {"backbone", "head", *(f"head/{name}" for name in sparse)}
    assert {name for name in first if "_norm/" in name} == {f"{kind}_norm/{name}" for kind in NORMS for name in names}
    assert not any(first[name].any() for name in first if "_norm/" in name)
    found = {name: pair[0] for name, pair in second.items() if "_norm/" in name}
    assert all(second[name][1] == 1 for name in found)

    moved = jax.tree.map(np.subtract, params[2], params[1])
    # Of a table: the rows that the step used, which are those that moved.
    used = {name: np.abs(moved["head"][name]).max(axis=(1, 2)) > 0 for name in sparse}
    rows = {name: params[2]["head"][name][used[name]] for name in sparse}
    for part in ("backbone", "head"):
        after = params[2][part] if part == "backbone" else {**params[2][part], **rows}
        np.testing.assert_allclose(found[f"param_norm/{part}"], norm(after), rtol=1e-5)
        np.testing.assert_allclose(found[f"update_norm/{part}"], norm(moved[part]), rtol=1e-4)
        # Without momentum and decay, the update is the gradient times the rate.
        np.testing.assert_allclose(found[f"grad_norm/{part}"], norm(moved[part]) / RATE, rtol=1e-4)
    for name in sparse:
        assert used[name].any()
        np.testing.assert_allclose(found[f"param_norm/head/{name}"], norm(rows[name]), rtol=1e-5)
        np.testing.assert_allclose(found[f"update_norm/head/{name}"], norm(moved["head"][name]), rtol=1e-4)
        np.testing.assert_allclose(found[f"grad_norm/head/{name}"], norm(moved["head"][name]) / RATE, rtol=1e-4)
