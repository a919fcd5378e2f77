"""The loop on sparse features and on words: heads, resuming, codes, predictions, eight devices."""

import json

import numpy as np
import pytest
import scipy.sparse

import mhe_jax
from mhe_jax.inference.predict import predict, predict_split
from mhe_jax.inference.predictions import read_predictions
from mhe_jax.train import experiment
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting.describe import describe
from tests import tiny_bag_config
from tests.data.texts.sparse import layouts
from tests.train.saved import assert_same, final_weights

pytestmark = pytest.mark.slow

TEXTS = {"train": 40, "test": 9}
NAMES = ("sea", "law", "tax", "fish", "port", "ship", "wine", "coal", "iron")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Data by the argument of a config: rows, or texts whose words are those of their labels."""
    made = {"sparse": tmp_path_factory.mktemp("sparse"), "": tmp_path_factory.mktemp("documents")}
    layouts.two_files(made["sparse"])
    rng = np.random.default_rng(0)
    for split, count in TEXTS.items():
        chosen = [rng.choice(len(NAMES), size=2, replace=False) for _ in range(count)]
        for what, words in (("raw_texts", lambda i: f"the {NAMES[i]} {NAMES[i]}s"), ("labels", lambda i: NAMES[i])):
            lines = [" ".join(map(words, row)) for row in chosen]
            (made[""] / f"{split}_{what}.txt").write_text("".join(f"{line}\n" for line in lines))
    return made


def tiny(folders, kind="sparse", head="mhc", **fields):
    config = tiny_bag_config.get_config(kind, head)
    config.data.path = str(folders[kind])
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    return config


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory):
    """A run on rows and its result."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, train_and_evaluate(tiny(folders), workdir)


@pytest.fixture(scope="module")
def of_texts(folders, tmp_path_factory):
    """A run on words and its result."""
    workdir = tmp_path_factory.mktemp("texts")
    return workdir, train_and_evaluate(tiny(folders, "", "ohe", total_steps=60), workdir)


@pytest.mark.parametrize("head", ["ohe", "mhp", "mhs"])
def test_the_other_heads_learn_too(folders, head, tmp_path):
    result = train_and_evaluate(tiny(folders, head=head), tmp_path)
    assert 0 <= result["last"]["P@1"] <= 1
    assert np.isfinite(json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["loss"])


def test_a_run_keeps_the_width_and_evaluates_the_test_rows(whole):
    workdir, result = whole
    assert json.loads((workdir / "config.json").read_text())["data"]["features_dim"] == layouts.FEATURES
    assert {"PSP@1", "nDCG@5"} <= set(result["test"])
    assert result["facts"]["features"] == layouts.FEATURES


def test_twelve_steps_are_six_and_six(whole, folders, tmp_path):
    config = tiny(folders)
    assert train_and_evaluate(config, tmp_path, interrupt_at=6)["interrupted"]
    train_and_evaluate(config, tmp_path)
    assert_same(final_weights(tmp_path), final_weights(whole[0]))


def test_it_is_the_same_run_with_the_classes_over_the_devices(whole, folders, tmp_path):
    config = tiny(folders, **{"mesh.data": 2, "mesh.classes": 4})
    train_and_evaluate(config, tmp_path)
    # Adam's first steps are as long for the smallest gradient as for any other.
    assert_same(final_weights(tmp_path), final_weights(whole[0]), rtol=1e-3, atol=1e-4)


def test_codes_are_found_by_the_features_of_the_labels(folders, tmp_path):
    train_and_evaluate(tiny(folders, **{"codes.name": "labels"}), tmp_path)
    assert (tmp_path / "codes.npy").exists()


def test_predictions_of_a_file_are_those_of_python(whole, tmp_path):
    workdir, _ = whole
    features, _ = layouts.made()["test"]
    scipy.sparse.save_npz(tmp_path / "rows.npz", features)
    config = experiment.usable_config(workdir)
    count = predict(config, workdir, str(tmp_path / "rows.npz"), 3, tmp_path / "out.jsonl")
    assert count == layouts.ROWS["test"]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    run = mhe_jax.load(workdir)
    assert [[one.id for one in row] for row in run.predict(features, top_k=3)] == [line["ids"] for line in lines]
    assert run.embed(features).shape == (layouts.ROWS["test"], 16)
    with pytest.raises(ValueError, match=r"takes sparse features \[N, 30\], not \[16, 7\]"):
        run.predict(features[:, :7])
    with pytest.raises(ValueError, match="takes a matrix of scipy.sparse, not str"):
        run.predict("a text")
    scipy.sparse.save_npz(tmp_path / "narrow.npz", features[:, :7])
    with pytest.raises(ValueError, match=r"narrow\.npz has 7 features, but 30 are expected"):
        predict(config, workdir, str(tmp_path / "narrow.npz"), 3)


def test_the_test_rows_are_ranked(whole):
    workdir, _ = whole
    predict_split(experiment.usable_config(workdir), workdir)
    found = read_predictions(workdir)
    assert found.scores.shape == (layouts.ROWS["test"], layouts.LABELS)


def test_words_tell_the_labels_and_the_folder_alone_predicts(of_texts, folders, tmp_path):
    workdir, result = of_texts
    assert result["last"]["P@1"] > 0.7
    run = mhe_jax.load(workdir)
    folders[""].rename(folders[""].with_name("elsewhere"))
    try:
        (first, *_), (second, *_) = run.predict(["a ship of iron", "wines"], top_k=2)
        assert first.label in ("ship", "iron")
        assert second.label == "wine"
        config = experiment.usable_config(workdir)
        assert predict(config, workdir, "the law", 1, tmp_path / "out.jsonl") == 1
        assert json.loads((tmp_path / "out.jsonl").read_text())["names"] == ["law"]
    finally:
        folders[""].with_name("elsewhere").rename(folders[""])


def test_weights_of_other_words_are_refused_before_training(of_texts, folders, tmp_path):
    source, _ = of_texts
    start = {"init_from": str(source), "total_steps": 1}
    train_and_evaluate(tiny(folders, "", "ohe", **start), tmp_path / "same")
    other = {**start, "data.min_documents": 30}
    with pytest.raises(ValueError, match=f"has numbered other words .*config.data.vectorizer={source}/vectorizer"):
        train_and_evaluate(tiny(folders, "", "ohe", **other), tmp_path / "other")
    assert not (tmp_path / "other" / "config.json").exists()
    by = {"data.vectorizer": f"{source}/vectorizer"}
    with pytest.raises(ValueError, match="config.data.min_documents is 30, but .* has words by 2"):
        train_and_evaluate(tiny(folders, "", "ohe", **other, **by), tmp_path / "by")
    train_and_evaluate(tiny(folders, "", "ohe", **start, **by), tmp_path / "by")


def test_memory_is_told_without_data(folders):
    config = tiny({"sparse": "/nowhere"}, **{"data.num_classes": 1000, "head.head_sizes": (40, 25)})
    with pytest.raises(ValueError, match="describe reads no data: say --config.data.features_dim"):
        describe(config)
    config.data.features_dim = 64
    found = describe(config, siblings=False)
    assert "feature_ids 16x512" in "\n".join(found.facts)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"name": "identity"}, "name is .identity., but config.data.name .sparse., whose examples go through .bag."),
        ({"name": "bag", "input_dim": 7}, "input_dim is 7, but features have 30"),
    ],
)
def test_a_backbone_for_something_else_is_an_error(folders, backbone, message, tmp_path):
    config = tiny(folders)
    with config.unlocked():
        config.backbone = backbone
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(config, tmp_path)
