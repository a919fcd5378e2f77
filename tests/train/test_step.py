import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.heads import build_head
from mhe_jax.labels import LabelSpace
from mhe_jax.models import build_backbone
from mhe_jax.recipes import heads
from mhe_jax.tasks.classification import Classification
from mhe_jax.train.optim.optimizer import Optimizer
from mhe_jax.train.parallel.mesh import make_mesh
from mhe_jax.train.state import abstract_state, create_state
from mhe_jax.train.step import StepOptions, make_train_step
from mhe_jax.train.streams import stream


@pytest.fixture
def task():
    section = {"name": "synthetic", "num_classes": 19, "image_shape": (8, 8, 1), "num_examples": 64}
    backbone = build_backbone(ConfigDict({"name": "convnet", "features_dim": 16, "widths": (8,)}), jnp.float32)
    head = build_head(ConfigDict(heads.mhc()), LabelSpace(19, (4, 5)), 16)
    return Classification(backbone, head, build_data(ConfigDict({**section, "num_eval_examples": 16})))


def doubled_batch():
    """16 rows, each twice in a row, without anything that a flip would change."""
    rng = np.random.default_rng(0)
    rows = np.broadcast_to(rng.integers(256, size=(16, 8, 1, 1), dtype=np.uint8), (16, 8, 8, 1))
    labels = rng.integers(19, size=16).astype(np.int32)
    repeat = lambda x: jnp.asarray(np.repeat(x, 2, axis=0))
    return {"image": repeat(rows), "label": repeat(labels), "weight": jnp.ones(32)}


def one_step(task, batch, **options):
    frozen = options.get("freeze_backbone", False)
    mesh = make_mesh(ConfigDict({"data": -1, "classes": 1}))
    optimizer = Optimizer(optax.sgd(0.5), lambda step: 0.5, freeze_backbone=frozen)
    with jax.set_mesh(mesh):
        state = create_state(task, optimizer, None, abstract_state(task, optimizer, None, mesh), seed=0)
        return jax.jit(make_train_step(task, optimizer, None, StepOptions(**options)))(state, batch)


def assert_close(left, right):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), left, right)


def test_accumulated_parts_equal_one_batch_when_their_statistics_agree(task):
    # The parts take every second row, so here each has the whole batch's BatchNorm statistics.
    whole, whole_sums = one_step(task, doubled_batch(), accumulate_steps=1)
    parts, parts_sums = one_step(task, doubled_batch(), accumulate_steps=2)
    assert_close(whole.params, parts.params)
    assert_close(whole_sums, parts_sums)


@pytest.mark.parametrize("accumulate_steps", [1, 2])
def test_a_frozen_backbone_stays_and_the_head_learns_from_the_features_of_evaluation(task, accumulate_steps):
    batch = doubled_batch()
    state, _ = one_step(task, batch, freeze_backbone=True, accumulate_steps=accumulate_steps)
    params, batch_stats = task.init(jax.random.key(0))
    before = nn.meta.unbox(params)
    assert_close(state.params["backbone"], before["backbone"])
    assert_close(state.batch_stats, batch_stats)
    features = task.embed({"params": before, "batch_stats": batch_stats}, batch["image"])
    loss = lambda p: task.head.apply({"params": p}, features, batch["label"], method="loss")[0].mean()
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, before["head"], jax.grad(loss)(before["head"]))
    assert_close(state.params["head"], expected)


def test_rows_of_weight_zero_give_no_gradient_to_the_head(task):
    batch = doubled_batch()
    relabelled = {**batch, "label": batch["label"].at[:4].set(3)}
    weight = batch["weight"].at[:4].set(0.0)
    first, sums = one_step(task, {**batch, "weight": weight}, accumulate_steps=1)
    second, _ = one_step(task, {**relabelled, "weight": weight}, accumulate_steps=1)
    assert_close(first.params, second.params)
    assert float(sums["loss"][1]) == 28


def test_streams_differ_by_name_and_step_and_depend_on_nothing_else():
    keys = {
        jax.random.key_data(stream(seed, name, step)).tobytes()
        for seed in (0, 1)
        for name in ("a", "b")
        for step in (0, 1)
    }
    assert len(keys) == 8
    np.testing.assert_array_equal(jax.random.key_data(stream(3, "a", 5)), jax.random.key_data(stream(3, "a", 5)))
