"""Fusing runs that belong together, and refusing others; weights are chosen on documents that are not reported."""

import json

import numpy as np
import pytest
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data import build
from mhe_jax.data.ragged import top_of
from mhe_jax.data.texts.folder import XmcText
from mhe_jax.data.texts.synthetic import SyntheticText
from mhe_jax.inference import ensemble, fusion, predictions
from mhe_jax.inference.truth import Truth
from mhe_jax.train import experiment

DOCUMENTS, LABELS, KEPT = 13, 17, 4


@pytest.fixture
def runs():
    """Three runs' top labels; document 5 has none in run 0, and none at all in document 6."""
    rng = np.random.default_rng(0)
    matrices = []
    for run in range(3):
        ids = rng.permuted(np.tile(np.arange(LABELS), (DOCUMENTS, 1)), axis=1)[:, :KEPT]
        ids[6] = -1
        if run == 0:
            ids[5] = -1
        scores = -np.sort(-rng.random((DOCUMENTS, KEPT)), axis=1)
        matrices.append(predictions.csr_of(ids, scores, LABELS))
    return matrices


def test_evaluation_leaves_filtered_pairs_out(runs):
    rng = np.random.default_rng(1)
    labels = scipy.sparse.random(DOCUMENTS, LABELS, 0.2, "csr", rng=rng, dtype=np.float32)
    ids, _ = top_of(runs[0], 1)
    rows = np.flatnonzero(ids[:, 0] >= 0)
    filtered = scipy.sparse.csr_matrix((np.ones(len(rows), bool), (rows, ids[rows, 0])), (DOCUMENTS, LABELS))
    split = Truth(labels, filtered)
    second, _ = top_of(runs[0], 2)
    hits = [second[row, 1] in labels[row].indices for row in range(DOCUMENTS)]
    assert ensemble.evaluate(runs[0], split)["P@1"] == pytest.approx(np.mean(hits))


def test_runs_on_other_documents_are_refused(runs, tmp_path):
    for name, matrix in (("a", runs[0]), ("b", runs[1][:-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "classes.json").write_text('{"number": 17, "names": []}')
        ids, scores = top_of(matrix, KEPT)
        writer = predictions.PredictionsWriter(tmp_path / name, "test", len(ids), LABELS, KEPT)
        writer.add(np.arange(len(ids)), ids, scores)
        writer.close()
    with pytest.raises(ValueError, match=r"b holds \(12, 17\) scores of split 'test', but .*a \(13, 17\)"):
        ensemble.read_runs([tmp_path / "a", tmp_path / "b"])


def test_metrics_of_a_dense_oracle_in_blocks(runs, monkeypatch):
    rng = np.random.default_rng(2)
    labels = scipy.sparse.random(DOCUMENTS, LABELS, 0.3, "csr", rng=rng, dtype=np.float32)
    q = (1 + rng.random(LABELS)).astype(np.float32)
    split = Truth(labels, None, q)
    monkeypatch.setattr(ensemble, "_BLOCK", 5)
    found = ensemble.evaluate(runs[1], split)
    ids, truth = top_of(runs[1], 3)[0], labels.toarray() > 0
    hits = [[label >= 0 and truth[row, label] for label in ids[row]] for row in range(DOCUMENTS)]
    assert found["P@3"] == pytest.approx(np.mean(hits))
    best = sum(sorted(q[truth[row]], reverse=True)[0] for row in range(DOCUMENTS) if truth[row].any())
    assert found["PSP@1"] == pytest.approx(sum(q[ids[row, 0]] for row in range(DOCUMENTS) if hits[row][0]) / best)
    assert {name.split("@")[0] for name in found} == {"P", "R", "nDCG", "PSP", "PSnDCG"}


def test_a_dropped_pair_is_not_wanted_either(runs):
    ids, _ = top_of(runs[1], 2)
    rows = np.flatnonzero(ids[:, 0] >= 0)
    pairs = lambda columns: scipy.sparse.csr_matrix(
        (np.ones(columns.size, np.float32), (np.repeat(rows, columns.shape[1]), columns.ravel())), (DOCUMENTS, LABELS)
    )
    labels, filtered = pairs(ids[rows]), pairs(ids[rows, :1]).astype(bool)
    split = Truth(labels, filtered)
    found = ensemble.evaluate(runs[1], split)
    assert found["R@1"] == found["nDCG@5"] == 1


SECTION = {"name": "synthetic_text", "num_classes": 23, "num_examples": 50, "num_eval_examples": 11}


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Writes what a trained run with predictions leaves behind; half of the ranking is true."""
    monkeypatch.setitem(build.DATA, "synthetic_text", SyntheticText)

    def make(name, noise, **fields):
        workdir, section = tmp_path / name, {**SECTION, **fields}
        source = SyntheticText(**{key: value for key, value in section.items() if key != "name"})
        splits = source.load()
        classes = experiment.Classes(source.num_classes, splits.class_names)
        experiment.claim_workdir(workdir, ConfigDict({"data": section}), classes)
        rng = np.random.default_rng(noise)
        documents = splits.eval.num_examples
        chances = rng.random((documents, source.num_classes)) + splits.eval.labels.toarray() * 0.6
        ids = np.argsort(-chances, axis=1)[:, :7]
        writer = predictions.PredictionsWriter(workdir, "eval", documents, source.num_classes, 7)
        writer.add(np.arange(documents), ids, np.take_along_axis(chances, ids, axis=1) / 2)
        writer.close()
        return workdir

    return make


@pytest.mark.parametrize("method", fusion.METHODS)
def test_figures_of_runs_their_mean_and_their_ensemble(make_run, tmp_path, method):
    # Tokens may differ from run to run.
    workdirs = [make_run("a", 1), make_run("b", 2, max_length=40, sort_window=2), make_run("c", 3)]
    figures = ensemble.run(workdirs, method, tmp_path / "out.npz")
    split = SyntheticText(**{key: value for key, value in SECTION.items() if key != "name"}).load().eval
    matrices = [predictions.read_predictions(workdir).scores for workdir in workdirs]
    assert (figures["documents"], figures["labels"], figures["split"]) == (11, 23, "eval")
    for workdir, matrix in zip(workdirs, matrices, strict=True):
        assert figures["runs"][str(workdir)] == ensemble.evaluate(matrix, split)
    assert figures["mean"]["P@5"] == pytest.approx(np.mean([row["P@5"] for row in figures["runs"].values()]))
    assert figures["ensemble"]["P@5"] > figures["mean"]["P@5"]
    written = scipy.sparse.load_npz(tmp_path / "out.npz")
    assert ensemble.evaluate(written, split) == figures["ensemble"]
    json.dumps(figures)
    lines = ensemble.table(figures).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines[1:]] == [*map(str, workdirs), "mean", "ensemble"]


def test_runs_that_do_not_belong_together_are_named(make_run):
    first = make_run("a", 1)
    with pytest.raises(ValueError, match="needs the workdirs of two runs or more"):
        ensemble.run([first], "score")
    with pytest.raises(ValueError, match="a run is given twice"):
        ensemble.run([first, first / ".." / "a"], "score")
    with pytest.raises(ValueError, match=r"b and .*a do not have the same documents"):
        ensemble.run([first, make_run("b", 2, seed=5)], "score")
    with pytest.raises(ValueError, match=r"c holds \(11, 29\) scores"):
        ensemble.run([first, make_run("c", 2, num_classes=29)], "score")
    bare = make_run("d", 2)
    (bare / "predictions.npz").unlink()
    with pytest.raises(ValueError, match=r"d has no predictions.npz; make it with: mhe predict"):
        ensemble.run([first, bare], "score")
    for output in (first / "out.csv", first / "nowhere" / "out.npz"):
        with pytest.raises(ValueError, match=r"it must be a file of an existing folder and end in .npz"):
            ensemble.run([first, bare], "score", output)


def test_data_that_is_not_what_a_run_predicted_is_refused(make_run):
    runs = [make_run(name, 1) for name in "ab"]
    for workdir in runs:
        config = json.loads((workdir / "config.json").read_text())
        config["data"]["num_eval_examples"] = 12
        (workdir / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=r"a predicted \(11, 23\) scores of split 'eval', but its data has labels \(12,"
    ):
        ensemble.run(runs, "score")


@pytest.fixture
def make_pair(tmp_path):
    """Writes a run with predictions of test and of held-out documents, with the true labels first or last."""
    words = [f"word{i}" for i in range(9)]
    rng = np.random.default_rng(3)
    for split, count in (("train", 60), ("test", 25)):
        texts = [" ".join(rng.choice(words, 2, replace=False)) for _ in range(count)]
        for kind in ("raw_texts", "labels"):
            (tmp_path / f"{split}_{kind}.txt").write_text("".join(text + "\n" for text in texts))
    section = {"name": "xmc", "path": str(tmp_path), "valid_examples": 20}
    data = XmcText(path=str(tmp_path), valid_examples=20)
    splits, names = data.splits(), data.corpora().label_names

    def make(name, **right):
        workdir = tmp_path / name
        workdir.mkdir(exist_ok=True)
        (workdir / "config.json").write_text(json.dumps({"data": section}))
        (workdir / "classes.json").write_text(json.dumps({"number": len(names), "names": list(names)}))
        for split, is_right in right.items():
            has = splits[split].labels.toarray() > 0
            chances = np.where(has == is_right, 0.9, 0.1) + 0.05 * rng.random(has.shape)
            ids = np.argsort(-chances, axis=1)
            writer = predictions.PredictionsWriter(workdir, split, *has.shape, len(names), split == "eval")
            writer.add(np.arange(len(ids)), ids, np.take_along_axis(chances, ids, axis=1))
            writer.close()
        return workdir

    return make


@pytest.mark.parametrize("method", [*fusion.METHODS, None])
def test_automatic_weights_are_those_of_the_held_out_documents(make_pair, method):
    """Run a is right on them, and b on the test documents, which must not be what chooses."""
    pair = [make_pair("a", eval=True, test=False), make_pair("b", eval=False, test=True)]
    figures = ensemble.run(pair, method, weights="auto")
    assert figures["chosen_on"]["split"] == "eval"
    assert (figures["chosen_on"]["documents"], figures["documents"], figures["split"]) == (20, 25, "test")
    assert figures["chosen_on"]["nDCG@5"] == 1 == max(figures["chosen_on"]["tried"].values())
    assert set(figures["chosen_on"]["tried"]) == ({method} if method else set(fusion.METHODS))
    assert figures["method"] == (method or "score")
    assert figures["weights"][0] > figures["weights"][1]
    by_hand = ensemble.run(pair, figures["method"], weights=figures["weights"])
    assert by_hand["ensemble"] == figures["ensemble"]
    assert by_hand["chosen_on"] is None
    # So well does b do alone, had it been asked.
    assert ensemble.run(pair, "score", weights=(0, 1))["ensemble"]["P@1"] == 1
    assert figures["ensemble"]["P@1"] == 0


def test_what_is_told_of_a_fusion(make_pair):
    pair = [make_pair("a", eval=True, test=True), make_pair("b", eval=False, test=False)]
    lines = ensemble.told(ensemble.run(pair, "score", weights="auto")).splitlines()
    assert lines[0].startswith("score: ")
    assert str(pair[0]) in lines[0]
    assert lines[1] == "chosen on 20 held-out documents of the split 'eval', by nDCG@5: score 1.0000"
    assert ensemble.told(ensemble.run(pair, weights=(3, 1))) == f"score: 0.75 {pair[0]}, 0.25 {pair[1]}"


def test_automatic_weights_need_documents_of_their_own(make_pair, make_run):
    pair = [make_pair("x", eval=True, test=True), make_pair("y", test=True)]
    with pytest.raises(ValueError, match=r"y has no predictions_val.npz; make it with: mhe predict --workdir=.*y --sp"):
        ensemble.run(pair, weights="auto")
    (pair[1] / "result.json").write_text('{"baseline": "linear"}')
    with pytest.raises(ValueError, match=r"make it with: mhe baseline linear --config=CONFIG --workdir=.*y$"):
        ensemble.run(pair, weights="auto")
    # Without documents held out, those that choose are those that are reported.
    with pytest.raises(ValueError, match=r"a predicted the documents that choose the best checkpoint, since its data"):
        ensemble.run([make_run("a", 1), make_run("b", 2)], weights="auto")
    with pytest.raises(ValueError, match="--weights has 3 numbers for 2 runs"):
        ensemble.run(pair, weights=(1, 1, 1))
