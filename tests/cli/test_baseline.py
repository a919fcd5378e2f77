"""`mhe baseline` on each kind of data, in processes of its own."""

import json
import pathlib
import subprocess
import sys

import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.propensity import inverse_propensity
from mhe_jax.data.texts.formats.layouts import read_corpora
from mhe_jax.evaluation.baselines.pixels import pixel_figures
from mhe_jax.evaluation.baselines.tfidf import NearestDocuments, measure

ROOT = pathlib.Path(__file__).parents[2]
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
CONFIG = """
from ml_collections import ConfigDict
def get_config():
    return ConfigDict({"data": SECTION})
"""


def baseline(folder, *flags):
    command = [sys.executable, "-m", "mhe_jax", "baseline", f"--config={folder}/config.py", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_texts(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 61), ("test", 13)):
        texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(count)]
        (tmp_path / f"{split}_raw_texts.txt").write_text("".join(text + "\n" for text in texts))
        (tmp_path / f"{split}_labels.txt").write_text("".join(text + "\n" for text in texts))
    section = {"name": "xmc", "path": str(tmp_path), "valid_examples": 10, "max_train": 40, "propensity": (0.6, 2.6)}
    (tmp_path / "config.py").write_text(CONFIG.replace("SECTION", repr(section)))
    values = {"P@1": 0.5, "loss": 2.0, "nDCG@5": 0.25, "PSP@1": None, "step": 3}
    result = {"head": "mhc", "best": values, "last": values, "test": {"P@1": 0.125}}
    (tmp_path / "result.json").write_text(json.dumps(result))
    run = baseline(tmp_path, "--neighbors=3", "--max_features=5", f"--compare={tmp_path}/result.json")
    assert run.returncode == 0, run.stderr

    chosen, test = build_data(ConfigDict(section)).corpora(), read_corpora(tmp_path).test
    expected = {}
    nearest = NearestDocuments(chosen.train.texts(), chosen.train.labels, neighbors=3, max_features=5)
    # Of all 61 training documents, those held out included.
    inverse = inverse_propensity(read_corpora(tmp_path).train.labels, 0.6, 2.6)
    for name, corpus in (("eval", chosen.test), ("test", test)):
        found = measure(nearest.rank(corpus.texts(), 5), corpus.labels, None, inverse)
        shown = ("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@3", "PSP@5")
        expected[name] = "TF-IDF, 3 nearest documents " + " ".join(f"{key} {found[key]:.4f}" for key in shown)
    assert [" ".join(line.split()) for line in run.stdout.splitlines()[:-1]] == [
        "eval: 40 training and 10 evaluation documents",
        expected["eval"],
        "trained model (mhc), best P@1 0.5000 nDCG@5 0.2500",
        "trained model (mhc), last P@1 0.5000 nDCG@5 0.2500",
        "test: 40 training and 13 evaluation documents",
        expected["test"],
        "trained model (mhc), test P@1 0.1250",
    ]


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
