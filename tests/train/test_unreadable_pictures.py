"""A streamed evaluation set with a picture that cannot be read: what a run does, and that nothing trained is lost."""

import json

import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.dataset import BadExample
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.recipes import heads
from mhe_jax.train import experiment
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import writers
from tests.train.test_loop import tiny

BROKEN = "val/b/1.png"


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in "abc":
            for number in range(count):
                path = tmp_path / "pictures" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                PIL.Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


def config(root, **data):
    fields = {"name": "image_folder", "path": str(root), "image_size": 7, "last_batch": "drop", **data}
    made = tiny(global_batch_size=8, steps_per_dispatch=1)
    with made.unlocked():
        made.data, made.head = fields, heads.ohe()
    return made


def steps_on_disk(workdir):
    checkpoints = Checkpoints(workdir, read_only=True)
    step = checkpoints.latest_step
    checkpoints.close()
    return step


def test_a_run_ends_before_its_first_step(root, tmp_path):
    (root / BROKEN).write_bytes(b"broken")
    with pytest.raises(BadExample, match=f"{BROKEN}: cannot be decoded"):
        train_and_evaluate(config(root), tmp_path / "run")
    assert not writers.read_events(tmp_path / "run" / "metrics.jsonl")
    PIL.Image.new("RGB", (8, 8)).save(root / BROKEN)
    assert train_and_evaluate(config(root), tmp_path / "run")["step"] == 6


def test_with_skip_it_counts_for_nothing_and_is_counted(root, tmp_path):
    (root / BROKEN).write_bytes(b"broken")
    result = train_and_evaluate(config(root, on_bad_example="skip"), tmp_path / "run")
    assert (result["step"], result["bad_examples"]) == (6, 1)
    assert result["last"]["step"] == 6


def test_a_picture_that_is_damaged_later_loses_nothing_trained(root, tmp_path):
    whole = (root / BROKEN).read_bytes()
    straight = train_and_evaluate(config(root), tmp_path / "straight")
    run = tmp_path / "run"
    train_and_evaluate(config(root), run, interrupt_at=4)
    (root / BROKEN).write_bytes(b"broken")
    for _ in range(2):  # a start without a repair finds the same
        with pytest.raises(BadExample, match=f"{BROKEN}: cannot be decoded"):
            train_and_evaluate(config(root), run)
        assert steps_on_disk(run) == 6
    (root / BROKEN).write_bytes(whole)
    result = train_and_evaluate(config(root), run)
    assert result["last"] == straight["last"]
    assert result["best"] == straight["best"]
    kept = json.loads((run / "checkpoints" / "6" / "meta" / "metadata").read_text())
    assert {name: kept[name] for name in ("last", "best")} == {name: result[name] for name in ("last", "best")}
    assert evaluate(experiment.usable_config(run), run)["step"] == result["best"]["step"]
