"""`mhe baseline` on each kind of data, in processes of its own."""

import json
import re

import numpy as np
import pytest
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.propensity import inverse_propensity
from mhe_jax.data.texts.formats.layouts import read_corpora
from mhe_jax.data.texts.sparse.vectorizer import Vectorizer, Words
from mhe_jax.evaluation.baselines.measure import measure
from mhe_jax.evaluation.baselines.neighbours import NearestRows
from mhe_jax.evaluation.baselines.pixels import pixel_figures
from mhe_jax.inference import ensemble
from mhe_jax.inference.predictions import read_predictions
from tests.command_line import mhe
from tests.data.texts.sparse import layouts

pytestmark = pytest.mark.slow

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
CONFIG = """
from ml_collections import ConfigDict
def get_config():
    return ConfigDict({"data": SECTION})
"""


def baseline(folder, *flags):
    return mhe("baseline", f"--config={folder}/config.py", *flags)


@pytest.fixture
def section(tmp_path):
    """`config.data` of a folder of texts, whose words are their labels, in config.py."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 61), ("test", 13)):
        texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(count)]
        (tmp_path / f"{split}_raw_texts.txt").write_text("".join(text + "\n" for text in texts))
        (tmp_path / f"{split}_labels.txt").write_text("".join(text + "\n" for text in texts))
    section = {"name": "xmc", "path": str(tmp_path), "valid_examples": 10, "max_train": 40, "propensity": (0.6, 2.6)}
    (tmp_path / "config.py").write_text(CONFIG.replace("SECTION", repr(section)))
    return section


@pytest.mark.parametrize("method", [(), ("neighbours",)])
def test_texts(section, tmp_path, method):
    values = {"P@1": 0.5, "loss": 2.0, "nDCG@5": 0.25, "PSP@1": None, "step": 3}
    result = {"head": "mhc", "best": values, "last": values, "test": {"P@1": 0.125}}
    (tmp_path / "result.json").write_text(json.dumps(result))
    run = baseline(tmp_path, *method, "--neighbors=3", "--max_features=5", f"--compare={tmp_path}/result.json")
    assert run.returncode == 0, run.stderr

    chosen, test = build_data(ConfigDict(section)).corpora(), read_corpora(tmp_path).test
    expected = {}
    words, nearest = Vectorizer(Words(max_vocabulary=5)), NearestRows(neighbors=3)
    nearest.fit(words.fit(chosen.train.texts()), chosen.train.labels)
    # Of all 61 training documents, those held out included.
    inverse = inverse_propensity(read_corpora(tmp_path).train.labels, 0.6, 2.6)
    for name, corpus in (("eval", chosen.test), ("test", test)):
        found = measure(nearest.rank(words.transform(corpus.texts()), 5)[0], corpus.labels, None, inverse)
        shown = ("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@3", "PSP@5")
        expected[name] = "TF-IDF, 3 nearest documents " + " ".join(f"{key} {found[key]:.4f}" for key in shown)
    *lines, last = [" ".join(line.split()) for line in run.stdout.splitlines()]
    assert lines == [
        "eval: 40 training and 10 evaluation documents",
        expected["eval"],
        "trained model (mhc), best P@1 0.5000 nDCG@5 0.2500",
        "trained model (mhc), last P@1 0.5000 nDCG@5 0.2500",
        "test: 40 training and 13 evaluation documents",
        expected["test"],
        "trained model (mhc), test P@1 0.1250",
    ]
    assert re.fullmatch(
        r"\d+ s; CPU seconds: [\d.]+ to train, [\d.]+ for eval \+ [\d.]+ for test; [\d.]+ GiB of memory at most", last
    )


def test_what_is_kept_in_a_folder_is_for_ensembles(section, tmp_path):
    folders = [tmp_path / "linear", tmp_path / "nearest"]
    for method, folder in zip(("linear", "neighbours"), folders, strict=True):
        run = baseline(tmp_path, method, f"--workdir={folder}", "--min_df=2")
        assert run.returncode == 0, run.stderr
        result = json.loads((folder / "result.json").read_text())
        assert (result["baseline"], result["settings"]["min_documents"]) == (method, 2)
        assert f"P@1 {result['test']['P@1']:.4f}" in run.stdout
        assert (result["train"]["documents"], result["eval"]["documents"], result["test"]["documents"]) == (40, 10, 13)
        seconds = [result["train_cpu_seconds"], result["test"]["predict_cpu_seconds"], result["peak_rss_gib"]]
        assert all(value >= 0 for value in seconds)
        assert {"mhe-jax", "scikit-learn"} <= set(result["versions"])
        for held_out, split, count in ((False, "test", 13), (True, "eval", 10)):
            found = read_predictions(folder, held_out)
            assert (found.split, found.scores.shape, found.top_k) == (split, (count, len(WORDS)), len(WORDS))
    # Every label is the word of its name.
    assert json.loads((folders[0] / "result.json").read_text())["test"]["P@1"] == 1
    done = mhe("ensemble", *folders, "--weights=auto")
    assert done.returncode == 0, done.stderr
    told, chosen, *_, line = done.stdout.splitlines()
    found = json.loads(line)
    assert told == f"{found['method']}: 0.5 {folders[0]}, 0.5 {folders[1]}"
    assert chosen.startswith("chosen on 10 held-out documents of the split 'eval', by nDCG@5: score ")
    figures = ensemble.run(folders, "score")
    for folder in folders:
        kept = json.loads((folder / "result.json").read_text())["test"]
        assert figures["runs"][str(folder)] == pytest.approx({name: kept[name] for name in figures["mean"]})


def test_omikuji(section, tmp_path):
    pytest.importorskip("omikuji")
    run = baseline(tmp_path, "omikuji", "--preset=bonsai", f"--workdir={tmp_path}/trees")
    assert run.returncode == 0, run.stderr
    assert [line.split("P@1")[0].strip() for line in run.stdout.splitlines()][:2] == [
        "eval: 40 training and 10 evaluation documents",
        "TF-IDF, omikuji, bonsai",
    ]
    result = json.loads((tmp_path / "trees" / "result.json").read_text())
    assert result["settings"]["preset"] == "bonsai"
    assert result["test"]["P@1"] == 1
    assert read_predictions(tmp_path / "trees").scores.shape == (13, len(WORDS))


@pytest.mark.parametrize("many", [True, False])
def test_features(tmp_path, many):
    """Each class is a direction of its own; the rows are these directions."""
    labels = np.arange(30) % 6
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "features.npy", np.eye(6, dtype=np.float16)[labels])
        if many:
            scipy.sparse.save_npz(tmp_path / split / "labels.npz", scipy.sparse.csr_matrix(np.eye(6)[labels]))
        else:
            np.save(tmp_path / split / "labels.npy", labels)
    name = "features_multilabel" if many else "features"
    section = {"name": name, "path": str(tmp_path), "features_dim": 0}
    (tmp_path / "config.py").write_text(CONFIG.replace("SECTION", repr(section)))
    for method, title in (("linear", "one-vs-rest"), ("neighbours", "4 nearest rows")):
        flags = ["--neighbors=4"] if method == "neighbours" else []
        run = baseline(tmp_path, method, *flags, f"--workdir={tmp_path}/{method}")
        assert run.returncode == 0, run.stderr
        lines = run.stdout.splitlines()
        assert lines[0] == "eval: 30 training and 30 evaluation rows"
        assert lines[1].split("P@1")[0].strip() == title
        assert "P@1 1.0000" in lines[1]
        assert ("PSP@1" in lines[1]) == many
        assert read_predictions(tmp_path / method).split == "eval"


@pytest.mark.parametrize("method", ["linear", "neighbours", "omikuji"])
def test_sparse_features(tmp_path, method):
    """Rows of files, and the words of texts as a run on them has them."""
    if method == "omikuji":
        pytest.importorskip("omikuji")
    layouts.one_file(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG.replace("SECTION", repr({"name": "sparse", "path": str(tmp_path)})))
    run = baseline(tmp_path, method, f"--workdir={tmp_path}/kept")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == "eval: 48 training and 12 evaluation rows"
    result = json.loads((tmp_path / "kept" / "result.json").read_text())
    assert result["train"] == {"documents": 48, "features": layouts.FEATURES}
    assert result["test"]["P@1"] > 0.8
    assert read_predictions(tmp_path / "kept").scores.shape == (layouts.ROWS["test"], layouts.LABELS)
    refused = baseline(tmp_path, method, "--min_df=2")
    assert "--min_df is of texts alone" in refused.stderr


def test_words_of_a_run(section, tmp_path):
    words = {**section, "name": "words", "min_documents": 2}
    (tmp_path / "config.py").write_text(CONFIG.replace("SECTION", repr(words)))
    run = baseline(tmp_path, "neighbours")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == "eval: 40 training and 10 evaluation rows"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trees"], "trees: give one of the methods neighbours, linear, omikuji, or none"),
        (["linear", "--preset=bonsai"], "--preset is of omikuji alone"),
        (["omikuji", "--neighbors=3"], "--neighbors is of neighbours alone"),
        (["linear", "--min_df=99"], "no words to tell them apart"),
        (["linear", "--workdir=RUN"], "holds a trained run, whose files would be lost: choose another folder"),
        (["linear", "--workdir=RUN_published"], "holds a trained run, whose files would be lost"),
    ],
)
def test_mistakes_on_texts(section, tmp_path, arguments, message):
    (tmp_path / "run" / "checkpoints" / "1").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "run_published").mkdir()
    (tmp_path / "run_published" / "model.safetensors").touch()
    run = baseline(tmp_path, *(argument.replace("RUN", f"{tmp_path}/run") for argument in arguments))
    assert (run.returncode, run.stdout) == (2, "")
    assert len(run.stderr.splitlines()) == 1
    assert message in run.stderr


def test_methods_are_not_for_pictures(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG.replace("SECTION", repr({"name": "cifar10", "path": str(tmp_path)})))
    run = baseline(tmp_path, "linear")
    assert run.returncode == 2
    assert run.stderr == "error: linear is for texts and features, but config.data.name is 'cifar10'\n"


def test_pictures_with_many_labels_have_no_nearest_picture(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG.replace("SECTION", repr({"name": "labelled_images", "path": "none"})))
    run = baseline(tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: the baseline of pictures needs one label each, but config.data has any number")


def test_faces(tmp_path):
    section = {
        "name": "face_synthetic",
        "num_classes": 50,
        "image_shape": (8, 8, 3),
        "num_examples": 60,
        "num_pairs": 40,
    }
    (tmp_path / "config.py").write_text(CONFIG.replace("SECTION", repr(section)))
    run = baseline(tmp_path)
    assert run.returncode == 0, run.stderr
    data = build_data(ConfigDict(section))
    figures = pixel_figures(data, data.load().eval)["synthetic"]
    assert f"accuracy {figures['accuracy']:7.2%}" in run.stdout


def test_data_that_is_missing_is_told_in_a_line(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG.replace("SECTION", repr({"name": "cifar10", "path": str(tmp_path)})))
    run = baseline(tmp_path)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert str(tmp_path) in run.stderr
