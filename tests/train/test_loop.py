"""The loop as a whole, on a small network and made-up pictures, over eight CPU devices."""

import csv
import json
import shutil

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.recipes import heads
from mhe_jax.recipes.base import base_config
from mhe_jax.train import experiment
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from mhe_jax.train.evaluator import Evaluator
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.parallel import distributed
from mhe_jax.train.reporting import writers
from mhe_jax.train.reporting.meter import Meter, NonFiniteLossError
from tests.train.saved import assert_same, final_weights

HEADS = {"ohe": heads.ohe(), "mhp": heads.mhp((4, 5)), "mhc": heads.mhc((4, 5)), "mhs": heads.mhs((5, 4))}


def tiny(head="mhp", **fields):
    """Six steps on 19 classes of 8 x 8 pictures."""
    config = base_config()
    config.data = {
        "name": "synthetic",
        "num_classes": 19,
        "image_shape": (8, 8, 1),
        "num_examples": 100,
        "num_eval_examples": 43,
        "last_batch": "drop",
    }
    config.backbone = {"name": "convnet", "features_dim": 16, "widths": (8,)}
    config.head = HEADS[head]
    config.optimizer = {"name": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4, "decay_all": False}
    config.schedule = {"name": "cosine", "learning_rate": 0.05, "end_learning_rate": 0.0, "warmup_epochs": 0.5}
    config.total_steps = 6
    config.global_batch_size = 32
    config.log_every_steps = 2
    config.eval_every_steps = config.checkpoint_every_steps = 3
    with config.unlocked():
        config.update(fields)
    return config


@pytest.mark.parametrize("head", HEADS)
def test_every_head_trains_and_leaves_its_files(tmp_path, head):
    result = train_and_evaluate(tiny(head), tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert {"config.json", "classes.json", "metrics.jsonl", "curves.png", "tensorboard"} <= {
        path.name for path in tmp_path.iterdir()
    }
    events = writers.read_events(tmp_path / "metrics.jsonl")
    order = [(event["split"], event["step"]) for event in events]
    assert order == [("train", 2), ("eval", 3), ("train", 4), ("train", 6), ("eval", 6)]
    assert all(np.isfinite(e["loss"]) and e["epoch"] == pytest.approx(e["step"] / 3, abs=1e-4) for e in events)
    assert all("examples_per_second" in e and "learning_rate" in e for e in events if e["split"] == "train")
    assert result["last"]["step"] == result["step"] == 6
    assert result["best"]["top1"] == max(e["top1"] for e in events if e["split"] == "eval")
    assert result["head_parameters"] > 0
    assert result["interrupted"] is False


def test_interrupted_at_step_3_and_resumed_equals_uninterrupted_bitwise(tmp_path):
    config = tiny(average={"name": "ema", "decay": 0.9})
    train_and_evaluate(config, tmp_path / "whole")
    first = train_and_evaluate(config, tmp_path / "parts", interrupt_at=3)
    assert first["interrupted"]
    assert first["step"] == 3
    second = train_and_evaluate(config, tmp_path / "parts")
    assert second["step"] == 6
    assert_same(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))
    events = [writers.read_events(tmp_path / run / "metrics.jsonl") for run in ("whole", "parts")]
    evaluated = [[e for e in run if e["split"] == "eval"] for run in events]
    assert evaluated[0] == evaluated[1]


def leaves_at_three(patch):
    asked = iter([False, False, True])
    patch.setattr(distributed.Agreement, "__call__", lambda self, requested: next(asked))


def test_a_run_that_is_told_to_leave_saves_first_and_evaluates_when_it_goes_on(tmp_path, monkeypatch):
    config = tiny()
    whole = train_and_evaluate(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        leaves_at_three(patch)
        first = train_and_evaluate(config, tmp_path / "parts")
    assert (first["step"], first["interrupted"], first["last"]) == (3, True, None)
    second = train_and_evaluate(config, tmp_path / "parts")
    assert (second["best"], second["last"]) == (whole["best"], whole["last"])
    assert_same(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))
    events = [writers.read_events(tmp_path / run / "metrics.jsonl") for run in ("whole", "parts")]
    evaluated = [[e for e in run if e["split"] == "eval"] for run in events]
    assert evaluated[0] == evaluated[1]


class Killed(BaseException):
    """Nothing of the program gets to run after it."""


def test_a_run_that_dies_in_an_evaluation_keeps_the_step_and_evaluates_when_it_goes_on(tmp_path, monkeypatch):
    whole = train_and_evaluate(tiny(), tmp_path / "whole")
    parts = tmp_path / "parts"
    for step in (3, 6):
        with monkeypatch.context() as patch:
            patch.setattr(Evaluator, "__call__", killed_from(step // 3))
            with pytest.raises(Killed):
                train_and_evaluate(tiny(), parts)
        assert Checkpoints(parts, read_only=True).latest_step == step
    assert (found := train_and_evaluate(tiny(), parts))["best"] == whole["best"]
    assert found["last"] == whole["last"] == figures_at(parts, 6)["last"] == figures_at(tmp_path / "whole", 6)["last"]
    assert_same(final_weights(tmp_path / "whole"), final_weights(parts))
    evaluated = [event["step"] for event in writers.read_events(parts / "metrics.jsonl") if event["split"] == "eval"]
    assert evaluated == [3, 6]


def killed_from(count):
    """An evaluation that the process does not outlive; before `count`, of step 3 and then 6, there are others."""
    evaluated, left = Evaluator.__call__, iter(range(count - 1))

    def call(self, weights, beat):
        if next(left, None) is None:
            raise Killed
        return evaluated(self, weights, beat)

    return call


def figures_at(workdir, step):
    return json.loads((workdir / "checkpoints" / str(step) / "meta" / "metadata").read_text())


def test_an_evaluation_made_late_is_not_made_again(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        leaves_at_three(patch)
        train_and_evaluate(tiny(), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Meter, "add", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train_and_evaluate(tiny(), tmp_path)
    train_and_evaluate(tiny(), tmp_path)
    events = writers.read_events(tmp_path / "metrics.jsonl")
    assert [event["step"] for event in events if event["split"] == "eval"] == [3, 6]


@pytest.mark.parametrize("head", ["mhc", "ohe"])
def test_a_run_resumes_on_another_mesh(tmp_path, head):
    config = tiny(head)
    train_and_evaluate(config, tmp_path / "whole")
    train_and_evaluate(config, tmp_path / "parts", interrupt_at=3)
    config.mesh.classes = 4
    result = train_and_evaluate(config, tmp_path / "parts")
    assert result["step"] == 6
    whole, parts = final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts")
    for name, value in whole.items():
        rows = tuple(slice(0, size) for size in value.shape)
        np.testing.assert_allclose(parts[name][rows], value, rtol=2e-3, atol=2e-5, err_msg=name)


def test_steps_per_dispatch_changes_nothing(tmp_path):
    for dispatch in (1, 4):
        train_and_evaluate(tiny(steps_per_dispatch=dispatch), tmp_path / str(dispatch))
    assert_same(final_weights(tmp_path / "1"), final_weights(tmp_path / "4"), rtol=1e-4, atol=1e-6)


def test_the_last_smaller_batch_can_be_kept(tmp_path):
    config = tiny(total_steps=8)
    config.data.update(num_examples=104, last_batch="keep")
    result = train_and_evaluate(config, tmp_path)
    assert result["step"] == 8
    assert result["last"]["step"] == 8


def test_a_non_finite_loss_stops_with_its_steps_and_keeps_the_last_checkpoint(tmp_path):
    config = tiny(total_steps=40, log_every_steps=1)
    config.eval_every_steps = config.checkpoint_every_steps = 1
    config.schedule = {"name": "steps", "learning_rate": 0.01, "milestones": (4 / 3,), "factor": 1e30}
    with pytest.raises((NonFiniteLossError), match=r"the (loss|parameters) (is|are)"):
        train_and_evaluate(config, tmp_path)
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert kept
    assert all(np.isfinite(value).all() for value in final_weights(tmp_path).values())


def test_another_config_is_refused_with_the_fields_that_differ(tmp_path):
    train_and_evaluate(tiny(total_steps=1), tmp_path)
    changed = tiny(total_steps=1, seed=3)
    changed.optimizer.momentum = 0.5
    with pytest.raises(ValueError, match=r"optimizer.momentum: 0.9 there, 0.5 here; seed: 0 there, 3 here"):
        train_and_evaluate(changed, tmp_path)


def test_a_run_may_be_lengthened_but_not_shortened(tmp_path):
    classes = experiment.Classes(19, ())
    experiment.claim_workdir(tmp_path, tiny(total_steps=6), classes)
    (tmp_path / "checkpoints" / "6").mkdir(parents=True)
    experiment.claim_workdir(tmp_path, tiny(total_steps=9), classes)
    assert experiment.read_workdir(tmp_path)[0].total_steps == 9
    with pytest.raises(
        ValueError, match=r"total_steps: 9 there, 6 here; choose another --workdir, where --config\.init"
    ):
        experiment.claim_workdir(tmp_path, tiny(total_steps=6), classes)
    with pytest.raises(ValueError, match=r"total_epochs: 0.0 there, 99.0 here; total_steps: 9 there, 0 here"):
        experiment.claim_workdir(tmp_path, tiny(total_steps=0, total_epochs=99.0), classes)


def test_a_damaged_checkpoint_is_named(tmp_path):
    train_and_evaluate(tiny(), tmp_path, interrupt_at=3)
    for path in (tmp_path / "checkpoints" / "3" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"\x00" * 7)
    with pytest.raises(ValueError, match=r"checkpoint .*checkpoints/3 cannot be read: .*none is left to continue from"):
        train_and_evaluate(tiny(), tmp_path)


def test_a_foreign_checkpoint_is_refused_by_array(tmp_path):
    train_and_evaluate(tiny(), tmp_path / "a", interrupt_at=3)
    wider = tiny()
    wider.backbone.features_dim = 24
    experiment.claim_workdir(tmp_path / "b", wider, experiment.Classes(19, ()))
    shutil.copytree(tmp_path / "a" / "checkpoints", tmp_path / "b" / "checkpoints")
    with pytest.raises(ValueError, match=r"is of another model, 10 differ.*kernel is \(128, 16\) in the file"):
        train_and_evaluate(wider, tmp_path / "b")


def test_evaluation_of_a_workdir_gives_the_best_checkpoints_figures(tmp_path):
    config = tiny()
    result = train_and_evaluate(config, tmp_path)
    values = evaluate(config, tmp_path)
    assert values["examples"] == 43
    assert values["step"] == result["best"]["step"]
    assert values["top1"] == pytest.approx(result["best"]["top1"])
    assert values["loss"] == pytest.approx(result["best"]["loss"], rel=1e-5)
    lines = list(csv.DictReader((tmp_path / "by_class.csv").read_text().splitlines()))
    assert len(lines) == 19
    assert sum(int(line["correct"]) for line in lines) == pytest.approx(43 * values["top1"])
    accuracies = [float(line["accuracy"]) for line in lines if line["accuracy"]]
    assert values["macro_top1"] == pytest.approx(np.mean(accuracies), rel=1e-5)
    with pytest.raises(DataError, match=r"nowhere.txt: cannot be read: No such file"):
        evaluate(config, tmp_path, tmp_path / "nowhere.txt")
    mistakes = csv.DictReader((tmp_path / "confusions.csv").read_text().splitlines())
    assert sum(int(line["times"]) for line in mistakes) == pytest.approx(43 * (1 - values["top1"]))


def test_init_from_another_run_takes_the_named_parts(tmp_path):
    """The backbone alone goes under another head, of another number of classes."""
    train_and_evaluate(tiny(), tmp_path / "first")
    first = final_weights(tmp_path / "first")
    config = tiny("mhc", init_from=str(tmp_path / "first"), init_parts=("backbone",), total_steps=1)
    config.data.num_classes, config.head.head_sizes = 23, (5, 5)
    config.schedule.learning_rate = 0.0
    config.optimizer.weight_decay = 0.0
    train_and_evaluate(config, tmp_path / "second")
    second = final_weights(tmp_path / "second")
    backbone = [name for name in second if name.startswith("['params']['backbone']")]
    assert backbone
    assert Checkpoints(tmp_path / "first").latest_step == 6
    for name in backbone:
        np.testing.assert_array_equal(second[name], first[name], err_msg=name)

    config.init_parts = ("backbone", "head")
    with pytest.raises(
        ValueError, match=r"first was trained on 19 classes, but here are 23: init_parts = \('backbone',"
    ):
        train_and_evaluate(config, tmp_path / "third")


def test_bad_init_from_is_named(tmp_path):
    with pytest.raises(ValueError, match="config.init_from: there is no file or folder nowhere.pth"):
        train_and_evaluate(tiny(init_from="nowhere.pth"), tmp_path)


def test_a_batch_that_the_devices_cannot_share_is_refused(tmp_path):
    with pytest.raises(ValueError, match="config.global_batch_size is 30; with 8 devices"):
        train_and_evaluate(tiny(global_batch_size=30), tmp_path)


@pytest.mark.parametrize(("stored", "classes"), [((2, 4), 4), ((1, 3), 2), ((2, -1), 4), ((-1, 16), 8), ((-1, 1), 1)])
def test_a_run_is_laid_out_anew_on_the_devices_that_are_here(tmp_path, stored, classes):
    train_config = tiny(mesh={"data": stored[0], "classes": stored[1]})
    (tmp_path / "config.json").write_text(train_config.to_json())
    (tmp_path / "classes.json").write_text('{"number": 19, "names": []}')
    assert experiment.usable_config(tmp_path).mesh.to_dict() == {"data": -1, "classes": classes}


def test_other_classes_are_refused(tmp_path):
    train_and_evaluate(tiny(total_steps=1), tmp_path)
    stored = json.loads((tmp_path / "classes.json").read_text())
    (tmp_path / "classes.json").write_text(json.dumps({**stored, "names": ["ant", "bee"]}))
    with pytest.raises(ValueError, match="class 0 is None, it was 'ant' there"):
        train_and_evaluate(tiny(total_steps=1), tmp_path)
    with pytest.raises(ValueError, match="class 0 is None, it was 'ant' there"):
        evaluate(tiny(total_steps=1), tmp_path)
