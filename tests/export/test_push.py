"""A run pushed to a folder and to a hub on loopback, and what is loaded from there: bit for bit the run."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import ModelCard
from ml_collections import ConfigDict

import mhe_jax
from mhe_jax.data.teacher import build_distillation
from mhe_jax.evaluation.calibration import Calibration
from mhe_jax.export.folder import write
from mhe_jax.export.formats import export
from mhe_jax.export.program import open_run
from mhe_jax.export.push import push
from mhe_jax.inference import hub
from mhe_jax.inference.decision import Decision, model_of
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.inference.predict import predict
from mhe_jax.recipes import heads
from mhe_jax.serving.changes import signature
from mhe_jax.train import experiment
from mhe_jax.train.checkpoints.published import without_paths
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config, tiny_text_config
from tests.command_line import mhe_anew
from tests.export.fake_hub import FakeHub
from tests.export.untrained import config_of, untrained

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
# Prints the predictions of a run with all bits of their scores.
ASK = """
import json, sys
import mhe_jax
run = mhe_jax.load(sys.argv[1])
for best in run.predict(json.loads(sys.argv[2]), top_k=4):
    print([(one.id, one.label, one.score.hex()) for one in best])
"""
TEXTS = ["3 4 5 6", "", "90 17", " ".join(map(str, range(3, 40)))]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run on pictures with codes, and one on texts; of two steps."""
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "codes.npy", np.random.default_rng(0).permutation(19))
    for kind, module in (("pictures", tiny_config), ("texts", tiny_text_config)):
        config = module.get_config()
        config.total_steps, config.eval_every_steps = 2, 0
        if kind == "pictures":
            config.head = heads.mhc((4, 5))
            config.codes = {"name": "file", "path": str(folder / "codes.npy"), "epochs": 2.0}
        train_and_evaluate(config, folder / kind)
    return folder


@pytest.fixture(scope="module")
def published(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    for kind in ("pictures", "texts"):
        pushed(runs / kind, folder / kind)
    return folder


def pushed(workdir, folder, **options):
    return push(experiment.usable_config(workdir), workdir, str(folder), **options)


def asked(name, cwd, env=()):
    """What a process of its own, started elsewhere, answers about `TEXTS`."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(name), json.dumps(TEXTS)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **dict(env)},
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_fresh_process_answers_bit_for_bit_the_same(runs, published, tmp_path):
    shutil.copytree(published / "texts", tmp_path / "elsewhere" / "run")
    assert asked(tmp_path / "elsewhere" / "run", tmp_path) == asked(runs / "texts", ROOT) != ""


def test_pictures_by_codes_are_the_same(runs, published):
    pictures = np.random.default_rng(0).integers(256, size=(9, 8, 8, 1), dtype=np.uint8)
    there, here = mhe_jax.load(published / "pictures"), mhe_jax.load(runs / "pictures")
    assert there.predict(pictures, top_k=7) == here.predict(pictures, top_k=7)
    np.testing.assert_array_equal(there.embed(pictures), here.embed(pictures))
    assert not there.codes.is_identity
    assert there.codes.digest == here.codes.digest
    assert there.classes == here.classes


def test_a_decision_goes_with_the_weights_that_it_is_of(runs, tmp_path, capsys):
    workdir = shutil.copytree(runs / "pictures", tmp_path / "run")
    trained = open_run(experiment.usable_config(workdir), workdir)
    model = model_of(workdir, trained.step, trained.classes)
    groups = np.zeros(19, np.int32)
    decision = Decision(Calibration("temperature", 0.25), np.array([0.2]), groups, True, 19, model, {})
    decision.save(workdir)
    pushed(workdir, tmp_path / "out")
    pictures = np.random.default_rng(0).integers(256, size=(9, 8, 8, 1), dtype=np.uint8)
    ask = lambda folder: mhe_jax.load(folder).predict(pictures, top_k=7, threshold="auto")
    assert ask(tmp_path / "out") == ask(workdir) != mhe_jax.load(workdir).predict(pictures, top_k=7)
    assert "left out" not in capsys.readouterr().err
    dataclasses.replace(decision, model={**model, "weights": "of another step"}).save(workdir)
    pushed(workdir, tmp_path / "out")
    assert not (tmp_path / "out" / "decision.safetensors").exists()
    assert "left out: " in capsys.readouterr().err


def test_the_command_line_answers_the_same(runs, published, tmp_path):
    lines = []
    for workdir in (runs / "texts", published / "texts"):
        predict(experiment.usable_config(workdir), workdir, "3 4 5", 4, tmp_path / "out.jsonl")
        lines.append((tmp_path / "out.jsonl").read_text())
    assert lines[0] == lines[1]


def test_the_folder_holds_data_alone(published):
    files = {str(path.relative_to(published / "texts")) for path in (published / "texts").rglob("*") if path.is_file()}
    assert files == {
        *("README.md", "classes.json", "classes.txt", "config.json", "manifest.json", "model.safetensors"),
        *("result.json", "tokenizer/kept.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
    }
    assert (published / "pictures" / "codes.npy").exists()
    for path in published.rglob("*.*"):
        if path.suffix in (".json", ".md", ".txt"):
            assert str(published.parent) not in path.read_text(), path
    content = json.loads((published / "texts" / "config.json").read_text())
    assert content["model_type"] == "mhe_jax"
    assert len(content["id2label"]) == 53
    assert (published / "texts" / "classes.txt").read_text().splitlines() == list(content["id2label"].values())


def test_the_card_has_the_figures_and_valid_metadata(runs, tmp_path):
    pushed(runs / "texts", tmp_path / "out", license="apache-2.0")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "text-classification"
    best = json.loads((runs / "texts" / "result.json").read_text())["best"]
    figures = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert figures == {name: value for name, value in best.items() if name != "step"}
    assert "seed: 0" in card.text
    assert "train: documents: 100" in card.text


def test_a_second_push_replaces_the_first_and_keeps_the_history(runs, tmp_path):
    pushed(runs / "texts", tmp_path / "out")
    (tmp_path / "out" / ".git").mkdir()
    (tmp_path / "out" / ".git" / "HEAD").write_text("ref")
    (tmp_path / "out" / "notes.md").write_text("mine")
    pushed(runs / "pictures", tmp_path / "out")
    assert "notes.md" not in json.loads((tmp_path / "out" / "manifest.json").read_text())["bytes"]
    pushed(runs / "pictures", tmp_path / "out")
    assert (tmp_path / "out" / "notes.md").read_text() == "mine"
    assert not (tmp_path / "out" / "tokenizer").exists()
    assert (tmp_path / "out" / ".git" / "HEAD").exists()
    assert mhe_jax.load(tmp_path / "out").config.data.name == "synthetic"


def test_a_published_run_is_exported_in_its_turn(published, tmp_path):
    workdir = published / "pictures"
    said = export(experiment.usable_config(workdir), workdir, "safetensors", tmp_path / "again")
    assert said.startswith(f"{tmp_path / 'again'}: safetensors, 19 classes")
    one, other = (safetensors.numpy.load_file(path / "model.safetensors") for path in (workdir, tmp_path / "again"))
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_tables_are_filled_up_for_the_devices_that_are_here(tmp_path):
    trained = untrained(config_of("pictures", heads.ohe()), tmp_path / "run")
    (tmp_path / "out").mkdir()
    write(trained, tmp_path / "out")
    pictures = np.random.default_rng(0).integers(256, size=(3, 8, 8, 1), dtype=np.uint8)
    expected = mhe_jax.load(tmp_path / "out").predict(pictures, top_k=3)
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    content["run"]["mesh"] = {"data": 2, "classes": 4}  # 19 rows become 20
    (tmp_path / "out" / "config.json").write_text(json.dumps(content))
    for one, other in zip(mhe_jax.load(tmp_path / "out").predict(pictures, top_k=3), expected, strict=True):
        assert [best.id for best in one] == [best.id for best in other]
        np.testing.assert_allclose([best.score for best in one], [best.score for best in other], rtol=1e-5)


def test_no_path_is_taken_from_the_folder(published, tmp_path):
    shutil.copytree(published / "texts", tmp_path / "bad")
    path = tmp_path / "bad" / "config.json"
    content = json.loads(path.read_text())
    content["run"]["data"].update(tokenizer="/etc", vocab_size=97)
    content["run"].update(init_from="/etc/passwd")
    path.write_text(json.dumps(content))
    config = experiment.usable_config(tmp_path / "bad")
    assert config.data.tokenizer == str(tmp_path / "bad" / "tokenizer")
    assert config.init_from == ""
    # A run's own config in the place of a published one is taken for none.
    path.write_text(json.dumps(content["run"]))
    with pytest.raises(ValueError, match="model_type must be 'mhe_jax'"):
        mhe_jax.load(tmp_path / "bad")


def test_files_that_only_training_reads_are_not_told():
    sections = {
        "distillation": {"name": "scores", "file": "/home/me/scores.npz", "weight": 0.5, "temperature": 1.0},
        "class_weights": {"name": "file", "path": "/home/me/weights.txt", "beta": 0.999, "start_epoch": 0.0},
    }
    found = without_paths(sections)
    assert not build_distillation(ConfigDict(found["distillation"])).teaches
    assert found["class_weights"] == {**sections["class_weights"], "name": "none", "path": ""}
    balanced = {"class_weights": {**found["class_weights"], "name": "balanced"}}
    assert without_paths(balanced) == balanced


def test_an_evaluation_is_that_of_the_run_and_so_is_a_start_from_it(runs, published):
    mine = evaluate(experiment.usable_config(runs / "pictures"), runs / "pictures")
    there = evaluate(experiment.usable_config(published / "pictures"), published / "pictures")
    assert there["loss"] == mine["loss"]
    config = tiny_config.get_config()
    config.head, config.init_from = heads.mhc((4, 5)), str(published / "pictures")
    assert evaluate(config, None)["loss"] == pytest.approx(mine["loss"], rel=1e-5)


def test_a_run_is_not_pushed_into_itself(published, tmp_path):
    shutil.copytree(published / "texts", tmp_path / "it")
    with pytest.raises(ValueError, match="is the run itself"):
        pushed(tmp_path / "it", tmp_path / "it")
    assert mhe_jax.load(tmp_path / "it").predict(TEXTS)


def damaged(content, path):
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"no", "is not a readable safetensors file"),
        ("model.safetensors", safetensors.numpy.save({"x": np.zeros(2)}), "is of another model: it lacks"),
        ("config.json", b'{"model_type": "mhe_jax"}', "run must be an object"),
        ("config.json", b"[]", "must hold an object"),
        ("classes.json", None, "holds no run"),
        ("model.safetensors", None, "no weights to use"),
    ],
)
def test_a_damaged_folder_gets_one_line(published, name, content, message, tmp_path):
    shutil.copytree(published / "pictures", tmp_path / "bad")
    damaged(content, tmp_path / "bad" / name)
    with pytest.raises(ValueError, match=message):
        mhe_jax.load(tmp_path / "bad")


def test_weights_are_used_by_their_own_codes_alone(published, tmp_path):
    bad = shutil.copytree(published / "pictures", tmp_path / "bad")
    seen = signature(bad)
    np.save(bad / "codes.npy", np.roll(np.load(bad / "codes.npy"), 1))
    assert signature(bad) != seen
    with pytest.raises(ValueError, match=r"codes\.npy holds other codes than those of model\.safetensors"):
        mhe_jax.load(bad)
    (bad / "codes.npy").unlink()
    with pytest.raises(ValueError, match=r"codes\.npy is missing, with the codes of model\.safetensors"):
        mhe_jax.load(bad)


def test_weights_that_do_not_say_their_codes_are_read(published, tmp_path):
    folder = shutil.copytree(published / "pictures", tmp_path / "old")
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file(weights, folder / "model.safetensors", metadata={"format": "mhe_jax"})
    assert mhe_jax.load(folder).codes.digest == mhe_jax.load(published / "pictures").codes.digest


def test_a_folder_without_its_tokenizer(published, tmp_path):
    shutil.copytree(published / "texts", tmp_path / "bad")
    shutil.rmtree(tmp_path / "bad" / "tokenizer")
    with pytest.raises(ValueError, match="lacks the folder tokenizer"):
        mhe_jax.load(tmp_path / "bad")


def test_a_weight_of_another_shape(published, tmp_path):
    shutil.copytree(published / "pictures", tmp_path / "bad")
    weights = safetensors.numpy.load_file(tmp_path / "bad" / "model.safetensors")
    weights["params/head/root/kernel"] = weights["params/head/root/kernel"][:, :2].copy()
    safetensors.numpy.save_file(weights, tmp_path / "bad" / "model.safetensors")
    with pytest.raises(ValueError, match=r"params/head/root/kernel is \[16, 2\], not \[16, 4\]"):
        mhe_jax.load(tmp_path / "bad")


def hub_env(endpoint, home):
    return {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_TELEMETRY": "1"}


def test_a_hub_and_back(runs, tmp_path, monkeypatch):
    """Each step in a process of its own, as the hub's address is read when its library is imported: half a minute."""
    with FakeHub() as server:
        env = hub_env(server.endpoint, tmp_path / "home")
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        for name in ("codes.npy", "vectorizer/idf.npy", "notes.md"):  # of another run, and of its owner
            server.files["someone/texts", name] = b"old"
        done = mhe_anew("push", f"--workdir={runs / 'texts'}", "--to=hub:someone/texts")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{server.endpoint}/someone/texts/commit/")
        there = {path for _, path in server.files}
        assert {"README.md", "config.json", "model.safetensors", "tokenizer/tokenizer.json", "notes.md"} <= there
        assert not {"codes.npy", "vectorizer/idf.npy"} & there
        server.files["someone/texts", "evil.py"] = b"raise SystemExit('ran')"
        expected = asked(runs / "texts", tmp_path)
        assert asked("hub:someone/texts", tmp_path) == expected
        assert not any("evil.py" in request for request in server.asked)
        files = dict(server.files)
        server.files.clear()
        done = mhe_anew("export", "--workdir=hub:someone/texts", "--format=torch", f"--output={tmp_path / 'out'}")
        assert done.returncode == 2
        assert done.stderr.startswith("error: hub:someone/texts cannot be had from the hub: 404"), done.stderr
        server.files.update(files)
    # The server is gone; what was downloaded stays.
    assert asked("hub:someone/texts", tmp_path) == expected


def test_a_hub_that_cannot_be_reached(runs, tmp_path, monkeypatch):
    for name, value in hub_env("http://127.0.0.1:9", tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    push_there = ["push", f"--workdir={runs / 'texts'}", "--to=hub:someone/texts"]
    for command in (push_there, ["export", "--workdir=hub:someone/texts", "--format=torch", f"--output={tmp_path}"]):
        done = mhe_anew(*command)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith("error: hub:someone/texts")


@pytest.mark.parametrize("name", ["hub:", "hub:a/b/c", "hub:a b", "hub:../x", "hub:-x"])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="names no repository: it must be hub:OWNER/NAME"):
        hub.repository(name)
