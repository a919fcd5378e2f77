"""Steps that are not finite: which batches are blamed, what is left out, and that the way there does not matter."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.data.build import DATA
from mhe_jax.data.images.synthetic import Synthetic
from mhe_jax.data.order import EpochOrder
from mhe_jax.train import loop
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import writers
from mhe_jax.train.reporting.meter import Meter, NonFiniteLossError
from mhe_jax.train.skips import Skips
from tests.train.saved import assert_same, final_weights
from tests.train.test_loop import tiny

pytestmark = pytest.mark.slow


class Poisoned(Synthetic):
    """Batch 4 of the first epoch holds a picture that is not a number."""

    def load(self):
        images = super().load()
        order = EpochOrder(self.num_examples, 32, seed=0)
        images.train.images[order.rows(4).index[7]] = 255
        return images

    def augment(self, images, key):
        poison = (images == 255).all(axis=(1, 2, 3), keepdims=True)
        return jnp.where(poison, jnp.nan, super().augment(images, key))


def small(**fields):
    config = tiny(keep_checkpoints=9, log_every_steps=1, eval_every_steps=0, eval_every_epochs=0.0, **fields)
    config.backbone = {"name": "convnet", "features_dim": 16, "widths": (8,)}
    return config


def test_a_rollback_leaves_the_batch_out_and_is_the_same_on_every_way(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(DATA, "poisoned", Poisoned)
    config = small(total_steps=8, checkpoint_every_steps=2, on_non_finite="rollback")
    config.data.update(name="poisoned", num_examples=32 * 20)
    result = train_and_evaluate(config, tmp_path / "whole")
    assert result["step"] == 8
    assert result["skipped_batches"] == [(4, 5)]
    assert "the loss is nan in steps 5 to 5: back to the last checkpoint" in capsys.readouterr().out
    events = writers.read_events(tmp_path / "whole" / "metrics.jsonl")
    assert [e["step"] for e in events if e["split"] == "train"] == list(range(1, 9))
    assert all(np.isfinite(e["loss"]) for e in events)

    # Stopped at the fault, told to go on, interrupted, and continued.
    parts = tmp_path / "parts"
    config.on_non_finite = "stop"
    with pytest.raises(NonFiniteLossError, match="the loss is nan in steps 5 to 5"):
        train_and_evaluate(config, parts)
    config.on_non_finite = "rollback"
    assert train_and_evaluate(config, parts, interrupt_at=7)["interrupted"]
    # From a checkpoint before the fault, with the batch known beforehand.
    for step in (4, 6, 7):
        shutil.rmtree(parts / "checkpoints" / str(step))
    train_and_evaluate(config, parts)
    assert_same(final_weights(tmp_path / "whole"), final_weights(parts))


def test_a_start_takes_over_what_a_run_found_while_the_data_were_read(monkeypatch, tmp_path):
    monkeypatch.setitem(DATA, "poisoned", Poisoned)
    config = small(total_steps=8, checkpoint_every_steps=2, on_non_finite="rollback")
    config.data.update(name="poisoned", num_examples=32 * 20)
    train_and_evaluate(config, tmp_path, interrupt_at=2)
    read = loop._loaded

    def read_late(settings):
        monkeypatch.setattr(loop, "_loaded", read)
        train_and_evaluate(config, tmp_path, interrupt_at=6)
        return read(settings)

    monkeypatch.setattr(loop, "_loaded", read_late)
    assert train_and_evaluate(config, tmp_path)["skipped_batches"] == [(4, 5)]


def test_steps_that_fail_with_any_batch_end_the_run(tmp_path):
    config = small(total_steps=40, checkpoint_every_steps=1, on_non_finite="rollback")
    config.schedule = {"name": "steps", "learning_rate": 0.01, "milestones": (4 / 3,), "factor": 1e30}
    with pytest.raises(NonFiniteLossError, match="with 3 different ranges of batches by now: it is not the data"):
        train_and_evaluate(config, tmp_path)
    assert all(np.isfinite(value).all() for value in final_weights(tmp_path).values())


def test_positions_pass_over_the_batches_left_out():
    error = lambda first, last: NonFiniteLossError("the loss is nan", first, last)
    skips = Skips().without(error(5, 6))
    assert [skips.position(step) for step in range(8)] == [0, 1, 2, 3, 6, 7, 8, 9]
    assert [skips.consecutive(step) for step in (0, 3, 4)] == [4, 1, None]
    skips = skips.without(error(5, 5)).without(error(8, 8))
    assert skips.ranges == [(4, 7), (10, 11)]
    assert [skips.position(step) for step in range(9)] == [0, 1, 2, 3, 7, 8, 9, 11, 12]
    assert [skips.consecutive(step) for step in (0, 4, 6, 7)] == [4, 3, 1, None]


def test_the_skips_of_a_run_are_read_back_and_damage_is_named(tmp_path):
    skips = Skips().without(NonFiniteLossError("the loss is nan", 5, 6))
    skips.write(tmp_path)
    assert Skips.read(tmp_path) == Skips()  # without checkpoints the run starts anew
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    assert Skips.read(tmp_path) == skips
    pairs = '[{{"steps": [1, 2], "batches": [0, {}]}}]'.format
    for text in (
        "{",
        '[{"steps": [1]}]',
        "7",
        "[" * 100_000,
        pairs("1e999"),
        pairs("1.5"),
        pairs("true"),
        pairs("1, 2"),
    ):
        (tmp_path / "skipped.json").write_text(text)
        with pytest.raises(ValueError, match=r"skipped.json is damaged"):
            Skips.read(tmp_path)
    assert json.dumps(skips.failures)


def test_those_of_a_deleted_run_do_not_come_back(tmp_path):
    Skips().without(NonFiniteLossError("the loss is nan", 5, 6)).write(tmp_path)
    config = small(total_steps=2, checkpoint_every_steps=1)
    assert train_and_evaluate(config, tmp_path)["skipped_batches"] == []
    assert Skips.read(tmp_path) == Skips()


@pytest.mark.parametrize(
    ("losses", "first"),
    [
        # The batch of the last finite loss may have spoilt the parameters.
        ([1.0, 1.0, np.nan], 2),
        ([np.nan], 1),
        # The loss of a step that is not read says nothing.
        ([1.0, None, None, np.nan], 1),
        ([1.0, None, 1.0, np.inf], 3),
    ],
)
def test_the_range_of_a_fault_begins_after_the_last_update_that_is_known_to_be_good(losses, first):
    meter = Meter(10, log_every=100, report=lambda step, values: None)
    for step, loss in enumerate(losses, 11):
        known = loss is not None
        meter.add(step, {"loss": jnp.array([loss or 0.0, 1.0]) * known, "examples": jnp.array([1.0, 1.0])})
    with pytest.raises(NonFiniteLossError) as raised:
        meter.drain()
    assert (raised.value.first, raised.value.last) == (10 + first, 10 + len(losses))


def test_parameters_that_are_checked_vouch_for_all_steps_before():
    meter = Meter(0, log_every=1, report=lambda step, values: None)
    meter.check_parameters(4, True)
    with pytest.raises(NonFiniteLossError, match="the parameters are not finite after step 6") as raised:
        meter.check_parameters(6, False)
    assert (raised.value.first, raised.value.last) == (5, 6)
