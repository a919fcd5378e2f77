"""A trained run in Python: pictures, texts and faces, against what the command line writes of them."""

import json
import os
import pathlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from mhe_jax.inference.predict import predict
from mhe_jax.inference.run import Prediction, load
from mhe_jax.train import experiment
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config, tiny_face_config, tiny_text_config

KINDS = {"pictures": tiny_config, "texts": tiny_text_config, "faces": tiny_face_config}


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """A run of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, module in KINDS.items():
        config = module.get_config()
        config.total_steps = 2
        config.eval_every_steps = 0
        train_and_evaluate(config, folder / kind)
    return folder


@pytest.fixture(scope="module")
def runs(workdirs):
    """All three, loaded in one process."""
    return {kind: load(workdirs / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def compilations():
    """A list that grows by one with each compiled program."""
    seen = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: seen.append(event) if event.endswith("backend_compile_duration") else None
    )
    return seen


def texts(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(map(str, rng.integers(3, 97, rng.integers(0, 20)))) for _ in range(count)]


def pictures(count, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).integers(256, size=(count, *shape), dtype=np.uint8)


def written(workdir, source, k, output):
    """What the command line writes."""
    predict(experiment.usable_config(workdir), workdir, str(source), k, output)
    return [json.loads(line) for line in output.read_text().splitlines()]


def assert_same(predictions, lines, k):
    assert len(predictions) == len(lines)
    for found, line in zip(predictions, lines, strict=True):
        assert [one.id for one in found] == line["ids"]
        assert [one.label for one in found] == line["names"]
        np.testing.assert_allclose([one.score for one in found], line["scores"], rtol=1e-4)
        assert len(found) == k


def test_texts_get_what_the_command_line_writes(runs, workdirs, tmp_path):
    asked = texts(70)
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in asked))
    lines = written(workdirs / "texts", tmp_path / "texts.txt", 4, tmp_path / "out.jsonl")
    predictions = runs["texts"].predict(asked, top_k=4)
    assert_same(predictions, lines, 4)
    (alone,) = runs["texts"].predict(asked[3], top_k=4)
    assert [one.id for one in alone] == lines[3]["ids"]
    assert all(isinstance(one, Prediction) for one in alone)
    assert runs["texts"].predict([]) == []


def test_pictures_get_what_the_command_line_writes(runs, workdirs, tmp_path):
    images = pictures(70)
    np.save(tmp_path / "images.npy", images)
    lines = written(workdirs / "pictures", tmp_path / "images.npy", 3, tmp_path / "out.jsonl")
    assert_same(runs["pictures"].predict(images, top_k=3), lines, 3)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, image in zip(paths, images, strict=False):
        PIL.Image.fromarray(image[:, :, 0]).save(path)
    assert_same(runs["pictures"].predict(paths, top_k=3), lines[:5], 3)
    assert_same(runs["pictures"].predict(str(paths[2]), top_k=3), lines[2:3], 3)


def test_an_unreadable_picture_costs_the_others_nothing(workdirs, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "c"):
        PIL.Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    (folder / "b.png").write_bytes(b"no picture")
    # A name whose bytes are no UTF-8 can still be written.
    PIL.Image.new("RGB", (8, 8)).save(os.fsencode(folder) + b"/\xff.png", format="png")
    with pytest.raises(ValueError, match="1 of 4 inputs cannot be read"):
        written(workdirs / "pictures", folder, 2, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [pathlib.Path(line["input"]).name for line in lines] == ["a.png", "c.png", "\udcff.png"]
    with pytest.raises(ValueError, match="1 of 4 inputs cannot be read"):
        predict(experiment.usable_config(workdirs / "faces"), workdirs / "faces", str(folder), 5, tmp_path / "out.npy")
    assert len(np.load(tmp_path / "out.npy")) == 3
    assert len(json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))) == 3
    assert capsys.readouterr().err.count(f"left out: {folder}/b.png: cannot be decoded") == 2


def test_faces_are_embedded_as_the_command_line_does(runs, workdirs, tmp_path):
    images = pictures(9, (8, 8, 3))
    np.save(tmp_path / "images.npy", images)
    workdir = workdirs / "faces"
    predict(experiment.usable_config(workdir), workdir, str(tmp_path / "images.npy"), 5, tmp_path / "out.npy")
    np.testing.assert_allclose(runs["faces"].embed(images), np.load(tmp_path / "out.npy"), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="faces is a run on faces, whose classes only trained it: use embed"):
        runs["faces"].predict(images)


@pytest.mark.parametrize(("kind", "some"), [("pictures", pictures(11)), ("texts", texts(11))])
def test_features_are_those_that_the_head_ranks(runs, kind, some):
    run = runs[kind]
    features = run.embed(some)
    assert features.shape == (11, 16)
    assert features.dtype == np.float32
    task, weights = run._trained.task, jax.device_get(run._trained.weights)
    _, ids = task.head.apply({"params": weights["params"]["head"]}, jnp.asarray(features), 2, method="topk")
    assert [[one.id for one in found] for found in run.predict(some, top_k=2)] == ids.tolist()
    assert run.embed(some[:0]).shape == (0, 16)


@pytest.mark.parametrize(("kind", "make"), [("pictures", pictures), ("texts", texts)])
def test_programs_are_compiled_once_for_calls_of_any_size(runs, kind, make, compilations):
    run = runs[kind]
    for count in (1, 3, 16, 32, 64, 200):
        run.predict(make(count))
        run.embed(make(count))
    # Of texts, both lengths at each batch size.
    run.predict(["5"] * 12 if kind == "texts" else make(12))
    run.predict(["5 " * 16] * 12 if kind == "texts" else make(12))
    before = len(compilations)
    assert before
    for count in (2, 7, 13, 30, 64, 65, 129, 300):
        assert len(run.predict(make(count, seed=1))) == count
    assert len(compilations) == before


def test_any_thread_and_any_ambient_mesh(runs):
    images, expected = pictures(20), runs["pictures"].predict(pictures(20))
    mesh = jax.make_mesh((2, 4), ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        assert runs["pictures"].predict(images) == expected
    with jax.set_mesh(jax.make_mesh((8,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))):
        assert runs["pictures"].predict(images) == expected
    found = {}
    asked = {"pictures": images, "texts": texts(20)}

    def ask(number, kind):
        found[number] = kind, runs[kind].predict(asked[kind])

    threads = [threading.Thread(target=ask, args=(i, kind)) for i, kind in enumerate(["pictures", "texts"] * 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = {"pictures": expected, "texts": runs["texts"].predict(asked["texts"])}
    assert len(found) == 8
    for kind, predictions in found.values():
        assert predictions == answers[kind]


def test_what_a_run_says_of_itself(runs, workdirs):
    run = runs["pictures"]
    assert run.classes == tuple(map(str, range(19)))
    assert run.label_space.head_sizes == (4, 5)
    assert run.config.head.name == "mhp"
    assert repr(run) == f"Run('{workdirs / 'pictures'}', 19 classes)"


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        ("texts", pathlib.Path("a.txt"), "texts is a run on texts and takes strings, not PosixPath"),
        ("texts", ["a", 3], "texts is a run on texts and takes strings, not int"),
        ("texts", pictures(2), "texts is a run on texts and takes strings, not ndarray"),
        ("pictures", 5, "is a run on pictures and takes paths of files, or a uint8 array, not int"),
        (
            "pictures",
            pictures(2).astype(np.float32),
            r"takes uint8 pictures \[N, 8, 8, 1\], not float32 \[2, 8, 8, 1\]",
        ),
        ("pictures", pictures(1)[0], r"takes uint8 pictures \[N, 8, 8, 1\], not uint8 \[8, 8, 1\]"),
        ("pictures", "nowhere.png", "nowhere.png: cannot be read: No such file"),
        ("faces", ["nowhere.png"], "nowhere.png: cannot be read: No such file"),
    ],
)
def test_inputs_of_another_kind_get_one_line(runs, kind, inputs, message):
    with pytest.raises(ValueError, match=message) as error:
        runs[kind].embed(inputs)
    assert "\n" not in str(error.value)


def test_more_classes_than_there_are(runs):
    for k in (0, 20):
        with pytest.raises(ValueError, match=f"top_k is {k}; it must be between 1 and the 19 classes"):
            runs["pictures"].predict(pictures(1), top_k=k)


def test_a_narrow_beam_finds_fewer(runs, workdirs):
    config = experiment.usable_config(workdirs / "texts")
    assert config.head.name == "mhc"
    (found,) = runs["texts"].predict("5 6 7", top_k=53)
    reached = config.head.num_candidates * 5
    assert 0 < len(found) <= reached < 53
    assert len({one.id for one in found}) == len(found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_folders_that_are_no_run_or_hold_no_weights(workdirs, tmp_path):
    with pytest.raises(ValueError, match="holds no run of this program"):
        load(tmp_path)
    for name in ("config.json", "classes.json"):
        (tmp_path / name).write_text((workdirs / "pictures" / name).read_text())
    with pytest.raises(ValueError, match="no weights to use: workdir .* has no checkpoints"):
        load(str(tmp_path))
