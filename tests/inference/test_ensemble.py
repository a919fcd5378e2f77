"""Averaging runs' rankings, against dense arithmetic."""

import json

import numpy as np
import pytest
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data import build
from mhe_jax.data.ragged import top_of
from mhe_jax.data.texts.dataset import TextSplit
from mhe_jax.data.texts.synthetic import SyntheticText
from mhe_jax.inference import ensemble, predictions
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


def dense(matrix):
    """(scores, whether there is one)."""
    there = matrix.copy()
    there.data = np.ones_like(there.data)
    return matrix.toarray().astype(np.float64), there.toarray() > 0


def test_score_is_the_mean_probability(runs):
    expected = np.mean([dense(m)[0] for m in runs], axis=0)
    np.testing.assert_allclose(ensemble.by_score(runs, KEPT).toarray(), expected, rtol=1e-5)


def test_sigmoid_is_the_mean_of_the_log_odds(runs):
    total, kept = np.zeros((DOCUMENTS, LABELS)), np.zeros((DOCUMENTS, LABELS), bool)
    for matrix in runs:
        scores, there = dense(matrix)
        odds = np.log(np.clip(scores, 1e-6, None)) - np.log1p(-np.clip(scores, 1e-6, None))
        for row in range(DOCUMENTS):
            lowest = odds[row][there[row]].min() if there[row].any() else 0.0
            total[row] += np.where(there[row], odds[row], lowest)
        kept |= there
    expected = np.where(kept, 1 / (1 + np.exp(-total / 3)), 0)
    np.testing.assert_allclose(ensemble.by_sigmoid(runs, KEPT).toarray(), expected, rtol=1e-4)


def test_rank_is_the_mean_of_linear_places(runs):
    expected = np.zeros((DOCUMENTS, LABELS))
    for matrix in runs:
        ids, _ = top_of(matrix, KEPT)
        for row in range(DOCUMENTS):
            for place, label in enumerate(ids[row]):
                if label >= 0:
                    expected[row, label] += (1 - place / KEPT) / 3
    np.testing.assert_allclose(ensemble.by_rank(runs, KEPT).toarray(), expected, rtol=1e-5)


@pytest.mark.parametrize("method", ensemble.METHODS)
def test_one_run_keeps_its_order(runs, method):
    combined = ensemble.combine([runs[1]], method)
    np.testing.assert_array_equal(top_of(combined, KEPT)[0], top_of(runs[1], KEPT)[0])


def test_evaluation_leaves_filtered_pairs_out(runs):
    rng = np.random.default_rng(1)
    labels = scipy.sparse.random(DOCUMENTS, LABELS, 0.2, "csr", rng=rng, dtype=np.float32)
    ids, _ = top_of(runs[0], 1)
    rows = np.flatnonzero(ids[:, 0] >= 0)
    filtered = scipy.sparse.csr_matrix((np.ones(len(rows), bool), (rows, ids[rows, 0])), (DOCUMENTS, LABELS))
    split = TextSplit(np.zeros(0, np.int32), np.zeros(DOCUMENTS + 1, np.int64), labels, 9, (4,), 1, filtered)
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


@pytest.mark.parametrize("method", ensemble.METHODS)
def test_blocks_of_documents_do_not_matter(runs, method, monkeypatch):
    cut = []
    for matrix in runs:
        ids, scores = top_of(matrix, KEPT)
        ids[7, 2:] = -1  # in a block of its own, the second of two labels must not be worth less
        cut.append(predictions.csr_of(ids, scores, LABELS))
    whole = ensemble.combine(cut, method)
    monkeypatch.setattr(ensemble, "_BLOCK", 1)
    parts = ensemble.combine(cut, method)
    np.testing.assert_array_equal(parts.toarray(), whole.toarray())
    assert parts.dtype == np.float32


@pytest.mark.parametrize("method", ensemble.METHODS)
def test_the_best_labels_are_kept(runs, method):
    whole, kept = ensemble.combine(runs, method), ensemble.combine(runs, method, 2)
    np.testing.assert_array_equal(top_of(kept, 2)[0], top_of(whole, 2)[0])
    assert np.diff(kept.indptr).max() == 2


def test_the_second_choice_of_all_beats_the_favourite_of_one():
    favourites, scores = (0, 2, 3), ([0.9, 0.8, 0.01], [0.7, 0.6, 0.01], [0.9, 0.2, 0.01])
    matrices = [
        predictions.csr_of(np.array([[first, 1, 4]]), np.array([row]), 5)
        for first, row in zip(favourites, scores, strict=True)
    ]
    for method in ensemble.METHODS:
        assert top_of(ensemble.combine(matrices, method), 1)[0].item() == 1, method
    # Label 1 is second of three everywhere, 4 the third: 1 - 1/3 and 1 - 2/3; the others are first once: 1/3.
    ranked = ensemble.combine(matrices, "rank").toarray()
    np.testing.assert_allclose(ranked, [[1 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)


def test_metrics_of_a_dense_oracle_in_blocks(runs, monkeypatch):
    rng = np.random.default_rng(2)
    labels = scipy.sparse.random(DOCUMENTS, LABELS, 0.3, "csr", rng=rng, dtype=np.float32)
    q = (1 + rng.random(LABELS)).astype(np.float32)
    split = TextSplit(
        np.zeros(0, np.int32), np.zeros(DOCUMENTS + 1, np.int64), labels, 9, (4,), 1, inverse_propensity=q
    )
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
    split = TextSplit(np.zeros(0, np.int32), np.zeros(DOCUMENTS + 1, np.int64), labels, 9, (4,), 1, filtered)
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


@pytest.mark.parametrize("method", ensemble.METHODS)
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
    with pytest.raises(ValueError, match=r"d has no predictions.npz; make it with: python main.py --mode=predict"):
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
