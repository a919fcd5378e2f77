"""Codes that a run finds for itself: a warm-up, codes, and the run proper, by one command, interrupted anywhere."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads.softmax import from_one_hot
from mhe_jax.labels import LabelSpace
from mhe_jax.recipes import heads
from mhe_jax.train import experiment, label_codes, warm_up
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.optim.optimizer import adamw
from mhe_jax.train.reporting import writers
from tests import tiny_config, tiny_face_config, tiny_text_config
from tests.train.saved import assert_same, final_weights

pytestmark = pytest.mark.slow

HEADS = {
    tiny_config: heads.mhc((4, 5)),
    tiny_text_config: {**heads.xmc_mhc((11, 5)), "num_candidates": 4, "hidden_dim": 8},
    tiny_face_config: {**heads.face_mhc((4, 5)), "margin": heads.margin("arcface", scale=16.0, m=0.2)},
}


def warmed(kind=tiny_config, **fields):
    """Six steps, of which an epoch, three of pictures, is the warm-up."""
    config = kind.get_config()
    config.head = HEADS[kind]
    config.codes = {"name": "warmup", "epochs": 1.0}
    config.total_steps, config.eval_every_steps, config.checkpoint_every_steps = 6, 6, 2
    for name, value in fields.items():
        config[name] = value
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run on pictures."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    train_and_evaluate(warmed(), workdir)
    return workdir


def steps_of(workdir, split="train"):
    return [event["step"] for event in writers.read_events(workdir / "metrics.jsonl") if event["split"] == split]


def test_one_command_warms_up_finds_codes_and_trains(whole):
    codes = label_codes.stored(whole, 19)
    assert not codes.is_identity
    assert steps_of(whole / "warmup") == [1, 2, 3]
    assert steps_of(whole) == [4, 5, 6]
    result = json.loads((whole / "result.json").read_text())
    assert (result["head"], result["step"], result["interrupted"]) == ("mhc", 6, False)
    before = json.loads((whole / "warmup" / "result.json").read_text())
    assert (before["head"], before["step"], before["interrupted"]) == ("ohe", 3, False)
    assert result["seconds"] > before["seconds"]
    # The schedule and its counts are those of the whole run.
    assert experiment.read_workdir(whole)[0].codes.name == "warmup"


def test_the_backbone_goes_on_and_the_head_begins_where_one_hot_has_got_to(tmp_path, whole):
    """One step after the warm-up, at a rate that changes nothing to speak of."""
    config = warmed(schedule={"name": "constant", "learning_rate": 1e-7}, optimizer={"name": "adamw"})
    train_and_evaluate(config, tmp_path, interrupt_at=4)
    before, after = final_weights(tmp_path / "warmup"), final_weights(tmp_path)
    names = [name for name in after if name.startswith(("['params']['backbone']", "['batch_stats']"))]
    assert names
    for name in names:
        np.testing.assert_allclose(after[name], before[name], atol=0.3 if "batch_stats" in name else 1e-5)
    assert after["['step']"] == 4
    # The rate is that of the whole run; moments begin anew, and so does the count that corrects them.
    counts = {name: int(after[name]) for name in after if name.endswith("['count']")}
    assert sorted(counts.values()) == [1, 4]
    in_order = label_codes.stored(tmp_path, 19).id_of_code
    rows = np.concatenate(
        [before[f"['params']['head']['{name}']"].reshape(19, -1) for name in ("kernel", "bias")], axis=1
    )
    (root, _), (_, table) = from_one_hot.cascade(jnp.asarray(rows[in_order]), LabelSpace(19, (4, 5)), 256)
    np.testing.assert_allclose(after["['params']['head']['root']['kernel']"], root[:-1], atol=1e-5)
    np.testing.assert_allclose(after["['params']['head']['table_1']"], table, atol=1e-4)


@pytest.mark.parametrize("unfreeze_steps", [(), (0,)])
@pytest.mark.parametrize("decay_after", [False, True])
def test_the_rate_goes_on_and_moments_begin_anew(decay_after, unfreeze_steps):
    schedule = lambda count: 0.1 / (1 + count)
    params = {"backbone": {"layer_0": jnp.ones(3)}, "head": jnp.ones(2)}
    rule = adamw(schedule, weight_decay=0.0, decay_after=decay_after, unfreeze_steps=unfreeze_steps)
    state = warm_up._with_rate_of(rule.init(params), jnp.int32(9))
    # With all gradients alike a corrected Adam moves by its rate.
    for step in (9, 10):
        moved, state = rule.update(jax.tree.map(jnp.ones_like, params), state, params)
        np.testing.assert_allclose(moved["head"], -schedule(step), rtol=1e-3)


@pytest.mark.parametrize("stops", [(2, 4), (3, 5)])
def test_interrupted_in_both_phases_and_resumed_equals_uninterrupted(tmp_path, whole, stops):
    for stop in stops:
        result = train_and_evaluate(warmed(), tmp_path, interrupt_at=stop)
        assert result["interrupted"]
        # Whoever goes on with the folder alone finds the config of the whole run in it.
        config, classes = experiment.read_workdir(tmp_path)
        assert (config.head.name, classes.number) == ("mhc", 19)
    train_and_evaluate(config, tmp_path)
    assert_same(final_weights(whole), final_weights(tmp_path))
    assert (tmp_path / "codes.npy").read_bytes() == (whole / "codes.npy").read_bytes()


@pytest.mark.parametrize("kind", [tiny_text_config, tiny_face_config], ids=["texts", "faces"])
def test_texts_and_faces_warm_up_too(tmp_path, kind):
    config = warmed(kind, codes={"name": "warmup", "epochs": 0.2}, total_steps=2, eval_every_steps=2)
    result = train_and_evaluate(config, tmp_path)
    assert result["step"] == 2
    assert not label_codes.stored(tmp_path, config.data.num_classes).is_identity
    assert json.loads((tmp_path / "warmup" / "result.json").read_text())["step"] < 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codes": {"name": "warmup", "epochs": 2.0}}, "config.codes.epochs is 2.0: the warm-up would take 6 steps"),
        ({"codes": {"name": "warmup", "epochs": 0.0}}, "config.codes.epochs is 0.0; it must be positive"),
        ({"codes": {"name": "warmup", "path": "x"}}, "config.codes.path is 'x', but codes.name = 'warmup' does not"),
        ({"head": heads.ohe()}, "config.codes.name is 'warmup', but the head has one digit"),
        ({"init_from": "nowhere.pth"}, "config.init_parts is ('backbone', 'head'), but after a warm-up"),
    ],
)
def test_a_wrong_section_is_an_error_before_anything_is_written(tmp_path, fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        train_and_evaluate(warmed(**fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()
