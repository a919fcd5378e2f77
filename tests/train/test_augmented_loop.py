"""Runs on augmented pictures: resumed, on another mesh, and with owned tables."""

import numpy as np
import pytest

from mhe_jax.recipes import heads
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import writers
from tests import tiny_config
from tests.train.saved import final_weights

pytestmark = pytest.mark.slow


def make(**fields):
    config = tiny_config.get_config()
    config.data.image_shape = (8, 8, 3)
    config.augment = {"name": "torchvision"}
    config.total_steps = 4
    config.eval_every_steps = config.checkpoint_every_steps = 2
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    return config


def losses(workdir):
    return [event["loss"] for event in writers.read_events(workdir / "metrics.jsonl") if event["split"] == "train"]


def assert_same_run(one, other):
    np.testing.assert_allclose(losses(one), losses(other), rtol=1e-4)
    first, second = final_weights(one), final_weights(other)
    for name in (name for name in first if "params" in name):
        np.testing.assert_allclose(first[name], second[name], rtol=2e-3, atol=2e-5, err_msg=name)


def test_a_run_that_is_resumed_or_on_another_mesh_is_the_same(tmp_path):
    """A recipe with everything: policy, erasing, both ways of mixing, repeated pictures. Four compilations of it."""
    train_and_evaluate(make(), tmp_path / "whole")
    train_and_evaluate(make(), tmp_path / "resumed", interrupt_at=2)
    train_and_evaluate(make(), tmp_path / "resumed")
    train_and_evaluate(make(**{"mesh.data": 2, "mesh.classes": -1}), tmp_path / "mesh")
    assert_same_run(tmp_path / "whole", tmp_path / "resumed")
    assert_same_run(tmp_path / "whole", tmp_path / "mesh")
    train_and_evaluate(make(**{"augment.name": "none"}), tmp_path / "plain")
    assert not np.allclose(losses(tmp_path / "plain")[0], losses(tmp_path / "whole")[0], rtol=1e-3)


@pytest.mark.parametrize(
    "head",
    [
        heads.ohe,
        lambda: {**heads.mhs((5, 4)), "sampler": heads.sampler("batch_union")},
        lambda: {**heads.mhc((5, 4)), "num_candidates": 2},
    ],
)
def test_an_owned_table_is_moved_by_both_labels(head, tmp_path):
    plain = {"name": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "decay_all": False}
    for name, table in (("none", {"name": "none"}), ("owned", {"name": "sgd", "updates": "owned"})):
        config = make()
        config.head, config.optimizer, config.table_optimizer = head(), dict(plain), table
        train_and_evaluate(config, tmp_path / name)
    assert_same_run(tmp_path / "none", tmp_path / "owned")
