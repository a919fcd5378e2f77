"""What gets a run's metrics besides its own file; those of other makers only where they are installed."""

import json
import math
from typing import ClassVar

import pytest

from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import trackers, writers
from tests import tiny_config

VALUES = {"train/loss": 2.5, "train/grad_norm/head": 0.5, "eval/P@5": 0.25, "eval/PSP@1": math.nan}


class Kept(list):
    """A tracker that keeps what it gets, and fails when it is told to."""

    made: ClassVar[list["Kept"]] = []
    fails_at: ClassVar[tuple[str, ...]] = ()

    def __init__(self, workdir, config, start_step):
        super().__init__()
        self.start_step, self.closed, self.asked = start_step, 0, 0
        Kept.made.append(self)
        self._fail("start")

    def add(self, step, values):
        self.asked += 1
        self._fail("add")
        self.append((step, values))

    def close(self):
        self.closed += 1
        self._fail("close")

    def _fail(self, where):
        if where in self.fails_at:
            raise ConnectionError(f"no\nnetwork at {where}")


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, "kept", Kept)
    monkeypatch.setattr(Kept, "made", [])
    return Kept.made


def config(**fields):
    made = tiny_config.get_config()
    made.update(total_steps=2, trackers=("kept",), **fields)
    return made


def test_a_tracker_gets_what_metrics_jsonl_gets_also_after_a_restart(kept, tmp_path):
    train_and_evaluate(config(), tmp_path, interrupt_at=1)
    train_and_evaluate(config(), tmp_path)
    assert [tracker.start_step for tracker in kept] == [0, 1]
    assert all(tracker.closed == 1 for tracker in kept)
    got = [(step, values) for tracker in kept for step, values in tracker]
    events = writers.read_events(tmp_path / "metrics.jsonl")
    assert len(got) == len(events) > 2
    for (step, values), event in zip(got, events, strict=True):
        named = {f"{event['split']}/{name}": event[name] for name in set(event) - {"step", "epoch", "split"}}
        assert (step, values) == (event["step"], named)
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("where", ["start", "add", "close"])
def test_the_run_goes_on_without_a_tracker_that_fails(kept, tmp_path, monkeypatch, capsys, where):
    monkeypatch.setattr(Kept, "fails_at", (where,))
    made = trackers.start(("kept",), tmp_path, tiny_config.get_config(), 0)
    writer = writers.Writer(tmp_path, 0, 2, trackers=made)
    for step in (1, 2):
        writer.write("train", step, 0.5, {"loss": 1.0})
    writer.close()
    assert len(writers.read_events(tmp_path / "metrics.jsonl")) == 2
    assert kept[0].asked == {"start": 0, "add": 1, "close": 2}[where]
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: kept")]
    assert len(warnings) == 1
    assert f"ConnectionError: no network at {where}" in warnings[0]


def test_tensorboards_own_files_end_the_run_where_they_cannot_be_written(tmp_path):
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.raises(OSError, match="tensorboard cannot be written"):
        trackers.start(("tensorboard",), tmp_path, tiny_config.get_config(), 0)


def test_unknown_trackers_and_missing_packages_are_named(monkeypatch):
    with pytest.raises(ValueError, match="config.trackers names 'board'; there are tensorboard, wandb, mlflow"):
        trackers.check(("tensorboard", "board"))
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="names 'mlflow', whose package is not installed: pip install mlflow"):
        trackers.check(("mlflow",))


def twice(name, workdir):
    """Two starts of a run with a tracker, each of which adds values."""
    for start_step in (0, 3):
        (tracker,) = trackers.start((name,), workdir, tiny_config.get_config(), start_step)
        tracker.add(start_step + 1, VALUES)
        tracker.close()
    return json.loads((workdir / "trackers.json").read_text())[name]


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_has_one_run_for_both_starts(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = twice("wandb", tmp_path)
    assert "warning: wandb" not in capsys.readouterr().out
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert folders
    assert all(folder.name.endswith(run) for folder in folders)


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_one_run_for_both_starts(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "digits")
    monkeypatch.chdir(tmp_path)
    run = mlflow.MlflowClient().get_run(twice("mlflow", tmp_path))
    assert run.info.status == "FINISHED"
    assert run.data.params["head.name"] == "mhp"
    assert run.data.metrics == {"train/loss": 2.5, "train/grad_norm/head": 0.5, "eval/P_at_5": 0.25}
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in history] == [1, 4]
