"""Runs with codes of their own: the same figures and ids as without, and a folder that goes on with its codes."""

import json
import re
import shutil

import numpy as np
import pytest

import mhe_jax
from mhe_jax.inference.ensemble import read_runs
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.inference.predict import predict, predict_split
from mhe_jax.recipes import heads
from mhe_jax.train import experiment, label_codes
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config, tiny_text_config
from tests.train.saved import assert_same, final_weights

pytestmark = pytest.mark.slow

KINDS = {"pictures": tiny_config, "texts": tiny_text_config}
# One-hot, of two digits that it does not look at: codes then change nothing but where a row lies.
HEADS = {"pictures": heads.ohe((4, 5)), "texts": heads.xmc_ohe((11, 5))}


def one_hot(kind, **fields):
    config = KINDS[kind].get_config()
    config.head = HEADS[kind]
    config.total_steps, config.eval_every_steps = 2, 1
    for name, value in fields.items():
        config[name] = value
    return config


def shuffled(folder, num_classes):
    path = folder / "order.npy"
    np.save(path, np.random.default_rng(5).permutation(num_classes))
    return {"name": "file", "path": str(path)}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """Two runs of two steps from the same weights, by ids and by codes; the kind, and where they lie."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    train_and_evaluate(one_hot(kind), folder / "start")
    codes = shuffled(folder, KINDS[kind].get_config().data.num_classes)
    for name, section in (("ids", {"name": "identity"}), ("codes", codes)):
        train_and_evaluate(one_hot(kind, init_from=str(folder / "start"), codes=section), folder / name)
    return kind, folder


def test_codes_change_no_figure(pair):
    kind, folder = pair
    by_ids, by_codes = (json.loads((folder / name / "result.json").read_text()) for name in ("ids", "codes"))
    assert by_codes["best"] == pytest.approx(by_ids["best"], rel=1e-4)
    found = {name: evaluate(experiment.usable_config(folder / name), folder / name) for name in ("ids", "codes")}
    same = {key: value for key, value in found["ids"].items() if isinstance(value, int | float)}
    assert {key: found["codes"][key] for key in same} == pytest.approx(same, rel=1e-4)
    if kind == "pictures":
        for name in ("by_class.csv", "confusions.csv"):
            assert (folder / "codes" / name).read_text() == (folder / "ids" / name).read_text()


def test_predictions_are_ids(pair, tmp_path):
    kind, folder = pair
    runs = {name: mhe_jax.load(folder / name) for name in ("ids", "codes")}
    assert (folder / "codes" / "classes.json").read_text() == (folder / "ids" / "classes.json").read_text()
    assert not (folder / "ids" / "codes.npy").exists()
    assert runs["ids"].codes.is_identity
    order = np.load(folder / "order.npy")
    np.testing.assert_array_equal(runs["codes"].codes.id_of_code, order)
    rng = np.random.default_rng(0)
    if kind == "texts":
        asked = ["3 4 5", "90 17"]
        (tmp_path / "asked.txt").write_text("".join(f"{text}\n" for text in asked))
    else:
        asked = rng.integers(256, size=(5, *runs["ids"]._trained.data.image_shape), dtype=np.uint8)
        np.save(tmp_path / "asked.npy", asked)
    np.testing.assert_allclose(runs["codes"].embed(asked), runs["ids"].embed(asked), rtol=1e-3, atol=1e-5)
    found, expected = (run.predict(asked, top_k=3) for run in (runs["codes"], runs["ids"]))
    assert [[one.id for one in row] for row in found] == [[one.id for one in row] for row in expected]
    assert [[one.label for one in row] for row in found] == [[one.label for one in row] for row in expected]
    lines = {}
    for name in runs:
        source = next(tmp_path.glob("asked.*"))
        predict(experiment.usable_config(folder / name), folder / name, str(source), 3, tmp_path / f"{name}.jsonl")
        lines[name] = [json.loads(line)["ids"] for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
    assert lines["ids"] == lines["codes"] == [[one.id for one in row] for row in expected]
    if kind == "texts":
        for name in runs:
            predict_split(experiment.usable_config(folder / name), folder / name)
        ids, codes = (run.predictions.scores.toarray() for run in read_runs([folder / "ids", folder / "codes"]))
        np.testing.assert_allclose(codes, ids, rtol=1e-3, atol=1e-5)


def test_interrupted_and_resumed_without_the_file_equals_uninterrupted(tmp_path):
    section = shuffled(tmp_path, 19)
    config = one_hot("pictures", head=heads.mhc((4, 5)), codes=section, total_steps=4, checkpoint_every_steps=2)
    train_and_evaluate(config, tmp_path / "whole")
    assert train_and_evaluate(config, tmp_path / "parts", interrupt_at=2)["interrupted"]
    shutil.move(tmp_path / "order.npy", tmp_path / "elsewhere.npy")
    train_and_evaluate(config, tmp_path / "parts")
    assert_same(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))
    # A cascade learns other things with other codes.
    train_and_evaluate(one_hot("pictures", head=heads.mhc((4, 5)), total_steps=4), tmp_path / "ids")
    results = [json.loads((tmp_path / name / "result.json").read_text())["last"]["loss"] for name in ("whole", "ids")]
    assert results[0] != pytest.approx(results[1], rel=1e-3)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    """A cascade with codes from a file, one step of four done."""
    folder = tmp_path_factory.mktemp("cascade")
    config = one_hot("pictures", head=heads.mhc((4, 5)), codes=shuffled(folder, 19), total_steps=4)
    train_and_evaluate(config, folder / "run", interrupt_at=1)
    return config, folder


def test_other_codes_for_a_run_that_has_some_are_an_error(cascade, tmp_path):
    config, folder = cascade
    np.save(tmp_path / "other.npy", np.random.default_rng(6).permutation(19))
    other = config.copy_and_resolve_references()
    other.codes.path = str(tmp_path / "other.npy")
    with pytest.raises(ValueError, match=r"other\.npy leads to other codes than .*codes\.npy, with which the run has"):
        train_and_evaluate(other, folder / "run")
    other.codes = {"name": "identity"}
    with pytest.raises(ValueError, match=r"codes\.name: file there, identity here"):
        train_and_evaluate(other, folder / "run")


def test_a_checkpoint_tells_its_codes(cascade, tmp_path):
    _, folder = cascade
    shutil.copytree(folder / "run", tmp_path / "run")
    label_codes.keep(tmp_path / "run", label_codes.LabelCodes.identity(19))
    with pytest.raises(ValueError, match="the classes are 19 as 4x5 by codes [0-9a-f]{16} in the file and 19 as 4x5"):
        mhe_jax.load(tmp_path / "run")
    (tmp_path / "run" / "codes.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"run/codes\.npy is no array of numbers"):
        mhe_jax.load(tmp_path / "run")


def test_a_cascade_starts_from_one_with_the_same_codes_alone(cascade, tmp_path):
    config, folder = cascade
    config = config.copy_and_resolve_references()
    config.init_from, config.total_steps = str(folder / "run"), 1
    train_and_evaluate(config, tmp_path / "same")
    config.codes = {"name": "identity"}
    with pytest.raises(ValueError, match="has other codes than this run, and the weights of a head 'mhc'"):
        train_and_evaluate(config, tmp_path / "other")
    config.init_parts = ("backbone",)
    train_and_evaluate(config, tmp_path / "backbone")


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ({"name": "shuffle"}, "config.codes.name is 'shuffle'; it must be one of"),
        ({"name": "file", "paths": "x"}, "config.codes.paths is not a field of 'file'"),
        ({"name": "file"}, "config.codes.path is empty, but codes.name = 'file' reads a file"),
        ({"name": "identity", "path": "x.npy"}, "config.codes.path is 'x.npy', but codes.name = 'identity' does not"),
        ({"name": "file", "path": "x.npy", "epochs": 1.0}, "config.codes.epochs is 1.0, but codes.name = 'file' does"),
        ({"name": "file", "path": "nowhere.npy"}, "nowhere.npy: cannot be read"),
    ],
)
def test_a_wrong_section_is_an_error_before_anything_is_written(tmp_path, codes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        train_and_evaluate(one_hot("pictures", codes=codes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_codes_of_a_head_without_digits_are_an_error(tmp_path):
    config = one_hot("pictures", head=heads.ohe(), codes=shuffled(tmp_path, 19))
    with pytest.raises(ValueError, match="config.codes.name is 'file', but the head has one digit"):
        train_and_evaluate(config, tmp_path / "run")
