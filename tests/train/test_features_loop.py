"""The loop on features, with one label a row and with many: heads, resuming, codes, predictions, eight devices."""

import json

import numpy as np
import pytest

import mhe_jax
from mhe_jax.inference import ensemble
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.inference.predict import predict, predict_split
from mhe_jax.inference.predictions import read_predictions
from mhe_jax.train import experiment
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting.describe import describe
from mhe_jax.train.reporting.writers import read_events
from tests import tiny_features_config
from tests.data.features.rows import CLASSES, ROWS, WIDTH, write_features
from tests.train.saved import assert_same, final_weights

pytestmark = pytest.mark.slow

KINDS = ("", "multilabel")


@pytest.fixture(scope="module", params=KINDS, ids=["one", "many"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Features by the argument of a config."""
    made = {kind: tmp_path_factory.mktemp("features") for kind in KINDS}
    for kind, folder in made.items():
        write_features(folder, multilabel=bool(kind))
    return made


def tiny(folders, kind, head="mhc", **fields):
    config = tiny_features_config.get_config(kind, head)
    config.data.path = str(folders[kind])
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    return config


@pytest.fixture(scope="module")
def whole(folders, kind, tmp_path_factory):
    """A run, whose first three steps of six are those of others, and its result."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, train_and_evaluate(tiny(folders, kind), workdir)


@pytest.mark.parametrize("head", ["ohe", "mhp", "mhs"])
def test_the_other_heads_learn_too(folders, kind, head, tmp_path):
    result = train_and_evaluate(tiny(folders, kind, head), tmp_path)
    name = "P@1" if kind else "top1"
    assert 0 <= result["last"][name] <= 1
    assert np.isfinite(json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["loss"])


def test_a_run_keeps_the_width_and_evaluates_the_test_rows(whole, kind):
    workdir, result = whole
    assert json.loads((workdir / "config.json").read_text())["data"]["features_dim"] == WIDTH
    assert {"PSP@1", "nDCG@5"} <= set(result["test"]) if kind else {"top1", "top5"} <= set(result["test"])
    assert result["facts"]["features_dim"] == WIDTH


def test_a_test_that_was_cut_short_is_among_the_metrics_in_the_end(folders, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "restore_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(tiny(folders, "", total_steps=1), tmp_path)
    for _ in range(2):
        train_and_evaluate(tiny(folders, "", total_steps=1), tmp_path)
        assert [event["split"] for event in read_events(tmp_path / "metrics.jsonl")].count("test") == 1


def test_six_steps_are_three_and_three(whole, folders, kind, tmp_path):
    config = tiny(folders, kind)
    assert train_and_evaluate(config, tmp_path, interrupt_at=3)["interrupted"]
    train_and_evaluate(config, tmp_path)
    assert_same(final_weights(tmp_path), final_weights(whole[0]))


def test_it_is_the_same_run_from_the_disk(whole, folders, kind, tmp_path):
    config = tiny(folders, kind, **{"data.device_mebibytes": 0, "data.check_finite": False, "steps_per_dispatch": 2})
    assert not train_and_evaluate(config, tmp_path)["facts"]["train"]["on_device"]
    assert_same(final_weights(tmp_path), final_weights(whole[0]), rtol=1e-5, atol=1e-6)


def test_it_is_the_same_run_with_the_classes_over_the_devices(whole, folders, kind, tmp_path):
    config = tiny(folders, kind, **{"mesh.data": 2, "mesh.classes": 4})
    train_and_evaluate(config, tmp_path)
    assert_same(final_weights(tmp_path), final_weights(whole[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("source", ["warmup", "labels", "pretrained"])
def test_codes_are_found_and_do_not_move_ids(folders, kind, source, tmp_path):
    config = tiny(folders, kind, **{"codes.name": source, "codes.epochs": 0.5 if source == "warmup" else 2.0})
    if (source, kind) == ("labels", ""):
        with pytest.raises(ValueError, match="it is for data with many labels: take 'warmup' or 'pretrained'"):
            train_and_evaluate(config, tmp_path)
        return
    result = train_and_evaluate(config, tmp_path)
    found = evaluate(experiment.usable_config(tmp_path), tmp_path)
    name = "P@1" if kind else "top1"
    assert found[name] == result["last"][name]
    assert (tmp_path / "codes.npy").exists()


def test_predictions_of_a_file_are_those_of_python(whole, folders, kind, tmp_path, capsys):
    workdir, _ = whole
    rows = np.load(folders[kind] / "test" / "features.npy")
    np.save(tmp_path / "rows.npy", rows)
    config = experiment.usable_config(workdir)
    assert predict(config, workdir, str(tmp_path / "rows.npy"), 3, tmp_path / "out.jsonl") == ROWS["test"]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[4]["input"] == f"{tmp_path / 'rows.npy'}[4]"
    run = mhe_jax.load(workdir)
    found = run.predict(rows.astype(np.float64), top_k=3)
    assert [[one.id for one in row] for row in found] == [line["ids"] for line in lines]
    assert run.embed(rows).shape == (ROWS["test"], WIDTH)
    # A row that is no number has no answer; the others have theirs.
    rows[2, 1] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    with pytest.raises(ValueError, match="1 of 13 inputs cannot be read"):
        predict(config, workdir, str(tmp_path / "rows.npy"), 3, tmp_path / "out.jsonl")
    assert f"{tmp_path / 'rows.npy'}[2] holds a NaN or an infinity" in capsys.readouterr().err
    assert [json.loads(line)["ids"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        line["ids"] for place, line in enumerate(lines) if place != 2
    ]


def test_features_of_another_width_are_refused(whole, folders, kind, tmp_path):
    workdir, _ = whole
    config = experiment.usable_config(workdir)
    np.save(tmp_path / "rows.npy", np.zeros((3, WIDTH + 1), np.float32))
    with pytest.raises(ValueError, match=r"rows\.npy has 13 features a row, but 12 are expected"):
        predict(config, workdir, str(tmp_path / "rows.npy"), 3)
    with pytest.raises(ValueError, match=r"takes float features \[N, 12\], not float32 \[3, 13\]"):
        mhe_jax.load(workdir).predict(np.zeros((3, WIDTH + 1), np.float32))
    with pytest.raises(ValueError, match="is a run on features and takes a float array, not str"):
        mhe_jax.load(workdir).predict("rows.npy")
    for split in ROWS:
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "features.npy", np.zeros((3, WIDTH + 1), np.float32))
    config = tiny(folders, kind, **{"data.path": str(tmp_path)})
    with pytest.raises(ValueError, match=r"train/features\.npy has 13 features a row, but 12 are expected"):
        train_and_evaluate(config, workdir)


def test_a_split_of_many_labels_is_ranked_and_one_of_one_label_is_not(whole, kind):
    workdir, _ = whole
    config = experiment.usable_config(workdir)
    if not kind:
        with pytest.raises(ValueError, match="--input is missing"):
            predict_split(config, workdir)
        return
    predict_split(config, workdir)
    found = read_predictions(workdir)
    assert (found.split, found.scores.shape) == ("test", (ROWS["test"], CLASSES))
    # Those of the rows that chose the best checkpoint lie beside them.
    assert predict_split(config, workdir, which="val").name == "predictions_val.npz"
    held_out = read_predictions(workdir, held_out=True)
    assert (held_out.split, held_out.scores.shape) == ("eval", (ROWS["val"], CLASSES))
    assert (read_predictions(workdir).scores != found.scores).nnz == 0


def test_runs_on_other_features_of_the_same_rows_are_an_ensemble(whole, folders, kind, tmp_path):
    if not kind:
        pytest.skip("ensembles are of many labels")
    write_features(tmp_path / "features", multilabel=True, dtype=np.float32)
    runs = [whole[0], tmp_path / "run"]
    train_and_evaluate(tiny(folders, kind, "ohe", **{"data.path": str(tmp_path / "features")}), runs[1])
    for run in runs:
        for which in ("test", "val"):
            predict_split(experiment.usable_config(run), run, which=which)
    assert ensemble.run(runs, weights="auto")["chosen_on"]["documents"] == ROWS["val"]
    found = ensemble.run(runs, "score")
    assert found["documents"] == ROWS["test"]
    assert found["runs"][str(whole[0])]["P@1"] == pytest.approx(whole[1]["test"]["P@1"])


def test_a_network_for_other_data_is_refused(folders, kind, tmp_path):
    config = tiny(folders, kind)
    config.backbone = {"name": "convnet"}
    with pytest.raises(ValueError, match="config.backbone.name is 'convnet', but .* go through 'identity'"):
        train_and_evaluate(config, tmp_path)


def test_a_width_of_the_network_that_the_features_do_not_have_is_refused(folders, kind, tmp_path):
    with pytest.raises(ValueError, match="config.backbone.input_dim is 5, but features have 12: leave it at 0"):
        train_and_evaluate(tiny(folders, kind, **{"backbone.input_dim": 5}), tmp_path)


def test_describe_needs_the_width_and_no_file(kind):
    config = tiny({kind: "/nowhere"}, kind, **{"data.num_classes": 1000, "head.head_sizes": (40, 25)})
    with pytest.raises(ValueError, match="describe reads no data: say --config.data.features_dim"):
        describe(config)
    config.data.features_dim = 64
    found = describe(config, siblings=False)
    assert "features 16x64" in "\n".join(found.facts)
