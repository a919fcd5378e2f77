"""The ranked labels of a split say of which weights they are; those of others are not fused."""

import json
import shutil

import numpy as np
import pytest

from mhe_jax.inference import ensemble, predictions
from mhe_jax.inference.predict import predict_split
from mhe_jax.train import class_files, experiment
from mhe_jax.train.checkpoints import complete
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_features_config
from tests.data.features.rows import write_features


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Two runs with the predictions of both splits, which are the same."""
    folder = tmp_path_factory.mktemp("runs")
    write_features(folder / "data", multilabel=True)
    config = tiny_features_config.get_config("multilabel", "ohe")
    config.data.path = str(folder / "data")
    train_and_evaluate(config, folder / "a")
    for which in ("test", "val"):
        predict_split(experiment.usable_config(folder / "a"), folder / "a", which=which)
    shutil.copytree(folder / "a", folder / "b")
    return folder


@pytest.fixture
def pair(predicted, tmp_path):
    return [shutil.copytree(predicted / name, tmp_path / name) for name in ("a", "b")]


def change(workdir, name, **model):
    facts = json.loads((workdir / name).read_text())
    facts["model"] |= model
    (workdir / name).write_text(json.dumps(facts))


def test_predictions_of_other_weights_are_refused(pair):
    ensemble.run(pair, "score", weights="auto")
    change(pair[1], "predictions_val.json", weights="of yesterday")
    ensemble.run(pair, "score")
    message = (
        r"b/predictions_val.npz is of another checkpoint than the run has now; make it again with: mhe predict .*val"
    )
    with pytest.raises(ValueError, match=message):
        ensemble.run(pair, "score", weights="auto")
    # Without the weights, of which predictions say as little as their own digests do.
    shutil.rmtree(pair[1] / "checkpoints")
    with pytest.raises(ValueError, match=r"b/predictions_val.npz is of other weights than predictions.npz; make both"):
        ensemble.run(pair, "score", weights="auto")
    change(pair[0], "predictions.json", weights="of yesterday")
    with pytest.raises(ValueError, match=r"a/predictions.npz is of another checkpoint than the run has now"):
        ensemble.run(pair, "score")


def test_predictions_that_do_not_say_are_taken(pair):
    path = pair[0] / "predictions.json"
    facts = json.loads(path.read_text())
    assert facts.pop("model")["step"] in complete.steps(pair[0])
    path.write_text(json.dumps(facts))
    assert ensemble.read_runs(pair)[0].predictions.model is None
    path.write_text(json.dumps({**facts, "model": "a"}))
    with pytest.raises(ValueError, match=r"predictions.npz or predictions.json is damaged \(model is a text\)"):
        ensemble.read_runs(pair)


def test_a_class_that_is_retired_since_makes_them_others(pair):
    class_files.change(pair[0], lambda classes: classes.without("4"))
    with pytest.raises(ValueError, match=r"a/predictions.npz is of other classes than the run has now"):
        ensemble.read_runs(pair)
    path = pair[0] / "predictions.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model": None}))
    for order in (pair, pair[::-1]):
        with pytest.raises(ValueError, match=r"the class '4' is retired in \S*a, but not in \S*b: the runs of an ens"):
            ensemble.read_runs(order)


def test_where_the_best_weights_are_damaged_those_that_are_used_count(pair):
    model = predictions.read_predictions(pair[0]).model
    file = next(path for path in (pair[0] / "checkpoints" / str(model["step"]) / "state").rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:-1])
    ensemble.read_runs(pair)
    with pytest.warns(UserWarning, match="is used instead"):
        predict_split(experiment.usable_config(pair[0]), pair[0])
    assert predictions.read_predictions(pair[0]).model["step"] != model["step"]
    with pytest.warns(UserWarning, match="is used instead"):
        ensemble.read_runs(pair)


def test_lines_may_have_more_labels_than_are_kept(pair, tmp_path, monkeypatch):
    before = predictions.read_predictions(pair[0])
    monkeypatch.setattr(predictions, "TOP_K", 3)
    output, config = tmp_path / "lines.jsonl", experiment.usable_config(pair[0])
    predict_split(config, pair[0], 7, output)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert {len(line["ids"]) for line in lines} == {7}
    for line, row in zip(lines, before.scores.toarray(), strict=True):
        np.testing.assert_allclose(line["scores"], np.sort(row)[:-8:-1], rtol=1e-4)
    found = predictions.read_predictions(pair[0])
    assert found.top_k == 3
    assert set(np.diff(found.scores.indptr)) == {3}
