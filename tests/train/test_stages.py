"""Runs whose sampled share grows: one program for each stage, resumed across a border, all classes at a share of 1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads import SampledHead
from mhe_jax.heads.base import Context
from mhe_jax.labels import LabelSpace
from mhe_jax.ops.sampling import RandomGroups
from mhe_jax.recipes import heads
from mhe_jax.tasks.base import Task
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import writers
from mhe_jax.train.reporting.describe import describe
from mhe_jax.train.stages import current, staged
from tests import tiny_config, tiny_face_config, tiny_text_config
from tests.train.saved import assert_same, final_weights
from tests.train.test_compilations import counted

pytestmark = pytest.mark.slow

KINDS = {
    "pictures": (tiny_config, heads.mhs),
    "texts": (tiny_text_config, heads.xmc_mhs),
    "faces": (tiny_face_config, heads.face_partial),
}
OWNED = {**heads.OWNED_TABLES, "storage": "float32", "rate": 1.0}


def make(kind="pictures", updates="none", rate=0.2, later_rates=(0.5, 1.0), **fields):
    module, head = KINDS[kind]
    config = module.get_config()
    config.data.num_classes = 211  # more than a batch has
    margin = {"margin": config.head.margin} if "margin" in config.head else {}
    sampler = heads.sampler("random_groups", rate=rate, later_rates=later_rates)
    config.head = {**head((0, 1)), "sampler": sampler, **margin}
    config.table_optimizer = {"none": {"name": "none"}, "sparse": {"name": "sgd"}, "owned": OWNED}[updates]
    config.average = {"name": "none"}
    config.log_every_steps = 1
    config.update_from_flattened_dict(fields)
    return config


def losses(workdir):
    return [event["loss"] for event in writers.read_events(workdir / "metrics.jsonl") if event["split"] == "train"]


@pytest.mark.parametrize(
    ("kind", "updates"),
    [("pictures", "owned"), ("texts", "sparse"), ("faces", "sparse")],
)
def test_resumed_across_a_border_equals_uninterrupted_bitwise(kind, updates, tmp_path):
    """Borders are at steps 2 and 4 of 6; the run is cut at one and behind one. Seven programs each."""
    config = make(kind, updates, steps_per_dispatch=3 if kind == "pictures" else 1)
    if kind == "texts":
        config.data.bucket_lengths = ()  # one shape of batches
    with counted() as counts:
        train_and_evaluate(config, tmp_path / "whole")
    assert counts["program"] == 3
    for stop in (2, 5):
        assert train_and_evaluate(config, tmp_path / "parts", interrupt_at=stop)["interrupted"]
    with counted() as counts:
        train_and_evaluate(config, tmp_path / "parts")
    assert counts["program"] == 1  # of the last stage
    assert_same(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))


def test_shares_grow_in_equal_parts_of_a_run(tmp_path):
    """The share that a batch trains is a metric of faces: of 211 identities, at least those of a batch.

    Four programs are compiled.
    """
    config = make("faces", rate=0.1, later_rates=(0.5, 1.0), total_steps=7, global_batch_size=8, eval_every_steps=0)
    train_and_evaluate(config, tmp_path / "staged")
    alone = make("faces", rate=0.1, later_rates=(), total_steps=7, global_batch_size=8, eval_every_steps=0)
    train_and_evaluate(alone, tmp_path / "alone", interrupt_at=4)
    covered = [
        event["coverage"] for event in writers.read_events(tmp_path / "staged/metrics.jsonl") if "coverage" in event
    ]
    np.testing.assert_allclose(covered, [21 / 211] * 2 + [105 / 211] * 2 + [1.0] * 3, rtol=1e-6)
    assert losses(tmp_path / "staged")[:2] == losses(tmp_path / "alone")[:2]
    assert losses(tmp_path / "staged")[2] != losses(tmp_path / "alone")[2]


@pytest.mark.parametrize("subtract_log_q", [False, True])
def test_the_last_stage_at_a_share_of_1_is_the_softmax_over_all_classes(subtract_log_q):
    space, dim = LabelSpace(53, (11, 5)), 6
    sampler = RandomGroups(rate=0.1, later_rates=(0.4, 1.0), subtract_log_q=subtract_log_q)
    head = SampledHead(space, dim, sampler=sampler)
    features = jax.random.normal(jax.random.key(0), (8, dim))
    labels, context = jnp.arange(8) * 6, Context(key=jax.random.key(1))
    weight = jax.random.normal(jax.random.key(2), (11, 5, dim))
    logits = np.asarray(features, np.float64) @ np.asarray(weight, np.float64).reshape(-1, dim)[:53].T
    dense = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(8), labels]
    loss = lambda head: head.apply({"params": {"weight": weight}}, features, labels, context, method="loss")[0]
    first, _, last = (np.asarray(loss(stage)) for stage in head.stages())
    np.testing.assert_allclose(last, dense, rtol=1e-6, atol=1e-6)
    assert np.abs(first - dense).max() > 0.1


@pytest.mark.parametrize(("total", "ends"), [(6, [2, 4, 6]), (7, [2, 4, 7]), (2, [0, 1, 2])])
def test_every_step_is_of_one_stage(total, ends):
    head = SampledHead(LabelSpace(7, (7, 1)), 2, sampler=RandomGroups(rate=0.1, later_rates=(0.3, 1.0)))
    stages = staged(Task(None, head), total, lambda task: task.head.sampler.rate)
    assert [stage.end for stage in stages] == ends
    found = [current(stages, step) for step in range(total)]
    assert found == sorted(found, key=lambda stage: stage.end)
    assert all(step < stage.end for step, stage in enumerate(found))
    assert current(stages, total + 5).program == 1.0


def test_the_largest_stage_is_described():
    """Three programs of faces are compiled, with their evaluations."""
    faces = functools.partial(make, "faces", "sparse", global_batch_size=8)
    config = faces()
    found = describe(config, siblings=False)
    assert "stages        0.2, 0.5, 1 of the groups" in "\n".join(found.facts)
    whole, first = (describe(faces(rate=rate, later_rates=()), siblings=False) for rate in (1.0, 0.2))
    assert found.heads[0].train == whole.heads[0].train
    assert found.heads[0].peak > first.heads[0].peak
    assert "stages" not in "\n".join(whole.facts)


@pytest.mark.parametrize("later_rates", [(0.1,), (0.5, 0.3), (0.5, 0.5), (0.4, 1.5)])
def test_shares_that_do_not_rise_are_refused(later_rates):
    with pytest.raises(
        ValueError, match=r"config.head.sampler.later_rates is \(.*\); from `rate`, 0.2, on shares must"
    ):
        RandomGroups(rate=0.2, later_rates=later_rates)
