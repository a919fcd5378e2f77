"""Faces through the whole loop, on a small network and made-up pictures: training, verification, embeddings."""

import json

import numpy as np
import PIL.Image
import pytest

from mhe_jax.inference import verify
from mhe_jax.inference.embeddings import opened_embedder, write_embeddings
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.inference.predict import predict
from mhe_jax.recipes import heads
from mhe_jax.recipes.base import base_config
from mhe_jax.train import experiment
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting import writers
from mhe_jax.train.reporting.meter import NonFiniteLossError
from tests.train.saved import assert_same, final_weights

MARGIN = heads.margin("arcface", scale=16.0, m=0.2)
HEADS = {
    "full": heads.face_ohe(),
    "adaface": {**heads.face_ohe(), "margin": heads.margin("adaface", scale=16.0)},
    "partial": {**heads.face_partial(), "sampler": heads.sampler("random_groups", rate=0.5)},
    "mhs": heads.face_mhs((5, 4)),
    "mhp": heads.face_mhp((5, 4)),
    "mhc": heads.face_mhc((5, 4)),
}


def tiny(head="full", **fields):
    """Six steps on 19 identities of 8 x 8 pictures."""
    config = base_config()
    config.data = {
        "name": "face_synthetic",
        "num_classes": 19,
        "image_shape": (8, 8, 3),
        "num_examples": 100,
        "num_pairs": 20,
        "last_batch": "drop",
    }
    config.backbone = {"name": "convnet", "features_dim": 8, "widths": (8,), "activate_features": False}
    config.head = {"margin": MARGIN, **HEADS[head]}
    config.optimizer = {"name": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4, "decay_all": False}
    config.schedule = {"name": "poly", "learning_rate": 0.05, "power": 2.0, "warmup_epochs": 0.0, "per_epoch": False}
    config.clip = {"name": "norm", "norm": 5.0, "parts": ("backbone",)}
    if head == "partial":
        config.table_optimizer = dict(heads.FACE_SPARSE_TABLES)
    config.total_steps, config.global_batch_size, config.log_every_steps = 6, 24, 2
    config.eval_every_steps = config.checkpoint_every_steps = 3
    with config.unlocked():
        config.update(fields)
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run and its result."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, train_and_evaluate(tiny(), workdir)


def test_a_run_verifies_and_draws_a_roc(run):
    workdir, result = run
    assert {"roc.png", "curves.png", "result.json"} <= {path.name for path in workdir.iterdir()}
    assert result["facts"]["identities"] == 19
    best = result["best"]
    assert {
        "accuracy",
        "auc",
        "threshold",
        "synthetic_published_accuracy",
        "synthetic_accuracy",
        "synthetic_auc",
        "synthetic_eer",
        "synthetic_tar@1e-1",
    } <= set(best)
    assert "synthetic_tar@1e-2" not in best  # ten different pairs measure no smaller rate than 0.1
    events = writers.read_events(workdir / "metrics.jsonl")
    assert {"cosine", "norm", "loss"} <= set(next(e for e in events if e["split"] == "train"))
    assert best["accuracy"] == max(e["accuracy"] for e in events if e["split"] == "eval")
    again = evaluate(experiment.usable_config(workdir), workdir)
    assert again["accuracy"] == best["accuracy"]
    assert again["examples"] == 40

    # Where the folder cannot be written, the figures come all the same.
    (workdir / "eval.json").unlink()
    (workdir / "eval.json").mkdir()
    with pytest.warns(UserWarning, match=r"the evaluation is not kept in .*eval\.json"):
        assert evaluate(experiment.usable_config(workdir), workdir) == again
    (workdir / "eval.json").rmdir()


@pytest.mark.parametrize("head", [name for name in HEADS if name != "full"])
def test_every_head_trains(tmp_path, head):
    result = train_and_evaluate(tiny(head), tmp_path)
    losses = [e["loss"] for e in writers.read_events(tmp_path / "metrics.jsonl") if e["split"] == "train"]
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    assert 0 <= result["best"]["accuracy"] <= 1


@pytest.mark.parametrize("head", ["adaface", "partial"])
def test_resumed_equals_uninterrupted_bitwise_with_statistics_and_sampled_rows(tmp_path, head):
    train_and_evaluate(tiny(head), tmp_path / "whole")
    train_and_evaluate(tiny(head), tmp_path / "parts", interrupt_at=3)
    train_and_evaluate(tiny(head), tmp_path / "parts")
    assert_same(final_weights(tmp_path / "parts"), final_weights(tmp_path / "whole"))
    names = final_weights(tmp_path / "whole")
    assert any("batch_std" in name for name in names) == (head == "adaface")
    assert any("trace" in name and "weight" in name for name in names) == (head == "partial")


def test_weights_that_are_not_finite_are_named_before_they_are_evaluated(tmp_path):
    config = tiny(eval_every_steps=1, checkpoint_every_steps=2)
    config.schedule.learning_rate = 3e38
    with pytest.raises(NonFiniteLossError, match="the parameters are not finite after step 1"):
        train_and_evaluate(config, tmp_path)


def test_accumulated_statistics_follow_the_parts(tmp_path):
    train_and_evaluate(tiny("adaface", accumulate_steps=3, mesh={"data": -1, "classes": 1}), tmp_path)
    weights = final_weights(tmp_path)
    mean = next(value for name, value in weights.items() if "batch_mean" in name)
    # Six steps of three parts each: eighteen updates of weight 0.01 away from 20, towards norms of order 3.
    assert 20 * 0.99**18 < mean < 20 * 0.99**17 + 3


def test_embeddings_of_ones_own_pictures(run, tmp_path):
    workdir, _ = run
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.png"):
        PIL.Image.fromarray(rng.integers(256, size=(12, 10, 3), dtype=np.uint8)).save(tmp_path / name)
    config = experiment.usable_config(workdir)
    assert predict(config, workdir, str(tmp_path), 5, tmp_path / "out.npy") == 2
    embeddings = np.load(tmp_path / "out.npy")
    assert json.loads((tmp_path / "out.json").read_text()) == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="1 of 1 inputs cannot be read"):
        predict(config, workdir, str(tmp_path / "bad.png"), 5, tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), embeddings)
    embed = opened_embedder(config, workdir)
    images = np.stack([embed.read(tmp_path / name) for name in ("a.png", "b.png")])
    both = embed(images) + embed(images[:, :, ::-1])
    assert embed(images[:0]).shape == (0, 8)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(embeddings, both, rtol=1e-4, atol=1e-5)

    asked = verify.verify(workdir, str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert asked["similarity"] == pytest.approx(float(both[0] @ both[1]), abs=1e-5)
    assert asked["threshold"] == json.loads((workdir / "result.json").read_text())["best"]["threshold"]
    assert asked["same"] == (asked["similarity"] >= asked["threshold"])
    assert verify.verify(workdir, str(tmp_path / "a.png"), str(tmp_path / "a.png"), 1.0)["same"]


def test_embeddings_need_a_run_on_faces_and_a_npy_file(run, tmp_path):
    workdir, _ = run
    with pytest.raises(ValueError, match="embeddings are written to a .npy file"):
        write_embeddings(experiment.usable_config(workdir), workdir, str(tmp_path), tmp_path / "out.json")
    with pytest.raises(ValueError, match="holds no threshold: finish the run, or name one"):
        verify.best_threshold(tmp_path)


def test_a_head_without_a_margin_is_refused(tmp_path):
    config = tiny()
    with config.unlocked():
        config.head = heads.ohe()
    with pytest.raises(ValueError, match="config.head.margin is missing: faces are verified by angles"):
        train_and_evaluate(config, tmp_path)
