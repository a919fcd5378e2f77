"""Which bits the products of each part are asked for, read off the traced programs."""

import collections

import jax
import jax.extend.core
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.heads.base import Context
from mhe_jax.recipes import heads
from mhe_jax.settings import Settings
from mhe_jax.train import experiment
from mhe_jax.train.optim.optimizer import build_optimizer
from mhe_jax.train.optim.schedules import build_schedule
from mhe_jax.train.parallel.mesh import make_mesh
from mhe_jax.train.state import abstract_state
from mhe_jax.train.step import StepOptions, make_eval_step, make_train_step
from tests import tiny_config, tiny_text_config


def pictures(head):
    config = tiny_config.get_config()
    config.head = head
    return config


def texts(head):
    config = tiny_text_config.get_config()
    config.head = head
    return config


CASES = {
    "ohe": lambda: pictures(heads.ohe()),
    "mhc": lambda: pictures(heads.mhc((4, 5))),
    "ohe of texts": lambda: texts(heads.xmc_ohe()),
}


def precisions(traced) -> collections.Counter:
    """How many of a program's products of matrices are asked for which precision."""
    found: collections.Counter = collections.Counter()
    for equation in traced.eqns:
        if equation.primitive.name == "dot_general":
            found[equation.params["precision"][0].name.lower()] += 1
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            found += precisions(inner)
    return found


def programs(config) -> dict[str, collections.Counter]:
    """Of the train step, of an evaluation, and of the loss of the head with its gradients alone."""
    settings = Settings.from_config(config)
    mesh = make_mesh(ConfigDict({"data": -1, "classes": 1}))
    data = build_data(settings.data)
    task = experiment.build_task(settings, settings.head, data, settings.data.num_classes)
    schedule = build_schedule(settings.schedule, total_steps=6, steps_per_epoch=3)
    optimizer = build_optimizer(settings.optimizer, schedule)
    batch = data.abstract_batch(32)
    features = jax.ShapeDtypeStruct((32, task.head.features_dim), jnp.float32)
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        state = abstract_state(task, optimizer, None, mesh)
        weights = {"params": state.params, "batch_stats": state.batch_stats}
        context = lambda batch: Context(
            key=jax.random.key(0), weight=batch["weight"], statistics=task.head.statistics()
        )
        loss = lambda params, features, batch: task.head_loss(params, features, batch, context(batch))[0].sum()
        traced = {
            "step": jax.make_jaxpr(make_train_step(task, optimizer, None, StepOptions()))(state, batch),
            "evaluation": jax.make_jaxpr(make_eval_step(task, lambda resident, piece: piece))(weights, {}, batch),
            "head": jax.make_jaxpr(jax.grad(loss, (0, 1)))(state.params["head"], features, batch),
        }
    return {name: precisions(program.jaxpr) for name, program in traced.items()}


@pytest.mark.parametrize("case", CASES)
def test_the_heads_products_and_no_others_have_its_precision(case):
    config = CASES[case]()
    usual = programs(config)
    config.head_matmul_precision = "highest"
    found = programs(config)
    for program in ("step", "evaluation"):
        assert set(usual[program]) == {"default"}
        assert found[program].total() == usual[program].total()
        assert 0 < found[program]["highest"] < found[program].total()
    # The gradients too.
    assert found["step"]["highest"] == usual["head"].total()

    config.matmul_precision, config.head_matmul_precision = "highest", "default"
    turned = programs(config)
    for program in ("step", "evaluation"):
        assert turned[program]["default"] == found[program]["highest"]
        assert turned[program]["highest"] == found[program]["default"]
