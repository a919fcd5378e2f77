"""The loop on two kinds of evidence: words beside the features of a frozen encoder, and beside one that is trained."""

import json

import jax
import jax.export
import numpy as np
import pytest
import scipy.sparse

import mhe_jax
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.rows import padded
from mhe_jax.data.texts.sparse.vectorizer import Vectorizer
from mhe_jax.data.texts.word_pieces import train_word_pieces
from mhe_jax.export.formats import export
from mhe_jax.export.push import push
from mhe_jax.inference.embed_splits import embed_splits
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.inference.predict import predict, predict_split
from mhe_jax.inference.predictions import read_predictions
from mhe_jax.train import experiment, kept_encoder
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting.describe import describe
from tests import tiny_side_by_side_config, tiny_text_config
from tests.train.saved import assert_same, final_weights

pytestmark = pytest.mark.slow

NAMES = ("sea", "law", "tax", "fish", "port", "ship", "wine", "coal", "iron")
KINDS = ("features", "encoder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """documents/ whose words are those of their labels, their tokenizer, a run on them, and features/ by that run."""
    root, rng = tmp_path_factory.mktemp("both"), np.random.default_rng(0)
    (root / "documents").mkdir()
    for split, count in {"train": 40, "test": 9}.items():
        chosen = [rng.choice(len(NAMES), size=2, replace=False) for _ in range(count)]
        for what, words in (("raw_texts", lambda i: f"the {NAMES[i]} {NAMES[i]}s"), ("labels", lambda i: NAMES[i])):
            lines = [" ".join(map(words, row)) for row in chosen]
            (root / "documents" / f"{split}_{what}.txt").write_text("".join(f"{line}\n" for line in lines))
    train_word_pieces(iter(NAMES), 64).save_pretrained(str(root / "tokenizer"))
    config = tiny_text_config.get_config()
    config.data = {
        "name": "xmc",
        "path": str(root / "documents"),
        "tokenizer": str(root / "tokenizer"),
        "cache_dir": str(root / "tokens"),
        "max_length": 12,
    }
    config.head = {"name": "ohe"}
    train_and_evaluate(config, root / "encoder_run")
    embed_splits(experiment.usable_config(root / "encoder_run"), root / "encoder_run", root / "features", "float32")
    return root


def tiny(folder, kind, head="ohe", **fields):
    config = tiny_side_by_side_config.get_config(kind, head)
    config.data.path = str(folder / "documents")
    if kind == "features":
        config.data.features = str(folder / "features")
    else:
        config.data.update(tokenizer=str(folder / "tokenizer"), cache_dir=str(folder / "tokens"))
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    return config


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run of each kind, and its result."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    return {kind: (workdir, train_and_evaluate(tiny(folder, kind), workdir)) for kind, workdir in folders.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", ["mhp", "mhc", "mhs"])
def test_the_other_heads_learn_too(folder, kind, head, tmp_path):
    result = train_and_evaluate(tiny(folder, kind, head, **{"codes.name": "labels"}), tmp_path)
    assert 0 <= result["last"]["P@1"] <= 1
    assert np.isfinite(json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["loss"])


@pytest.mark.parametrize("kind", KINDS)
def test_twelve_steps_are_six_and_six(folder, kind, whole, tmp_path):
    config = tiny(folder, kind)
    assert train_and_evaluate(config, tmp_path, interrupt_at=6)["interrupted"]
    train_and_evaluate(config, tmp_path)
    assert_same(final_weights(tmp_path), final_weights(whole[kind][0]))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_run_with_the_classes_over_the_devices(folder, kind, whole, tmp_path):
    # Dropout draws by the shape of what a device holds; without it nothing is drawn.
    dropless = {"backbone.bag.dropout": 0.0}
    if kind == "encoder":
        dropless |= {f"backbone.network.{name}_dropout": 0.0 for name in ("hidden", "attention", "feature")}
    one, several = tmp_path / "one", tmp_path / "several"
    train_and_evaluate(tiny(folder, kind, "mhc", **dropless, **{"mesh.data": 8, "mesh.classes": 1}), one)
    train_and_evaluate(tiny(folder, kind, "mhc", **dropless, **{"mesh.data": 2, "mesh.classes": 4}), several)
    # Adam's first steps are as long for the smallest gradient as for any other.
    assert_same(final_weights(several), final_weights(one), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pushed_run_answers_as_the_run(folder, kind, whole, tmp_path):
    workdir, _ = whole[kind]
    push(experiment.usable_config(workdir), workdir, str(tmp_path / "pushed"))
    texts = ["a ship of iron", "wines", ""]
    assert mhe_jax.load(tmp_path / "pushed").predict(texts, 3) == mhe_jax.load(workdir).predict(texts, 3)
    assert str(folder) not in (tmp_path / "pushed" / "config.json").read_text()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["onnx", "stablehlo"])
def test_a_program_has_the_encoder_inside(folder, kind, form, whole, tmp_path):
    """From what the export's folder holds: tokens and words of texts, and the names of classes."""
    onnxruntime = pytest.importorskip("onnxruntime")
    workdir, _ = whole[kind]
    export(experiment.usable_config(workdir), workdir, form, tmp_path, 3)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["longest_length"] == 12
    assert manifest["longest_words"] == 512
    texts = ["a ship of iron", "wines", "", "nothing known"]
    data = TextData(tokenizer=str(tmp_path / "tokenizer"), max_length=12, prefix=manifest["prefix"])
    words = Vectorizer.load(tmp_path / "vectorizer").transform(texts)
    inputs = {**data.inputs_of(texts), **padded(words, (5,))}
    assert {name: one["dtype"] for name, one in manifest["inputs"].items()} == {
        name: array.dtype.name for name, array in inputs.items()
    }
    if form == "onnx":
        ids, scores = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(["ids", "scores"], inputs)
    else:
        found = jax.export.deserialize(bytearray((tmp_path / "model.stablehlo").read_bytes())).call(inputs)
        ids, scores = np.asarray(found["ids"]), np.asarray(found["scores"])
    run = mhe_jax.load(workdir).predict(texts, 3)
    np.testing.assert_allclose(scores, [[one.score for one in best] for best in run], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ids, [[one.id for one in best] for best in run])
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_alone_predicts_texts(folder, kind, whole, tmp_path):
    workdir, _ = whole[kind]
    hidden = folder.with_name("elsewhere")
    folder.rename(hidden)
    try:
        run = mhe_jax.load(workdir)
        texts = ["a ship of iron", "wines", "", "nothing known"]
        found = run.predict(texts, top_k=2)
        assert predict(experiment.usable_config(workdir), workdir, "wines", 2, tmp_path / "out.jsonl") == 1
        line = json.loads((tmp_path / "out.jsonl").read_text())
        assert [one.id for one in found[1]] == line["ids"]
        assert run.embed(texts).shape == (4, 32)
        with pytest.raises(ValueError, match="is a run on texts and takes strings"):
            run.predict([3])
    finally:
        hidden.rename(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_of_a_split_are_those_of_its_texts(folder, kind, whole):
    workdir, _ = whole[kind]
    predict_split(experiment.usable_config(workdir), workdir)
    ranked = read_predictions(workdir)
    texts = (folder / "documents" / "test_raw_texts.txt").read_text().splitlines()
    run = mhe_jax.load(workdir)
    for row, best in enumerate(run.predict(texts, top_k=3)):
        order = sorted(best, key=lambda one: one.id)
        scores = ranked.scores[row].toarray()[0]
        np.testing.assert_allclose([one.score for one in order], scores[[one.id for one in order]], rtol=2e-3)
    assert "P@1" in evaluate(experiment.usable_config(workdir), workdir)


@pytest.mark.parametrize("kind", KINDS)
def test_its_features_can_be_embedded(folder, kind, whole, tmp_path):
    workdir, _ = whole[kind]
    written = embed_splits(experiment.usable_config(workdir), workdir, tmp_path / "out")
    assert written == {"train": (40, 32), "val": (9, 32)}
    assert not (tmp_path / "out" / kept_encoder.FOLDER).exists()


def test_texts_need_the_encoder_of_the_features(folder, tmp_path):
    config = tiny(folder, "features")
    bare = tmp_path / "features"
    bare.mkdir()
    for name in ("train", "val"):
        (bare / name).symlink_to(folder / "features" / name)
    config.data.features = str(bare)
    train_and_evaluate(config, tmp_path / "run")
    with pytest.raises(ValueError, match="only `mhe embed` of texts keeps its encoder beside them"):
        mhe_jax.load(tmp_path / "run").predict("wines")
    (tmp_path / "run" / kept_encoder.FOLDER).mkdir()
    with pytest.raises(ValueError, match="holds no encoder that `mhe embed` kept"):
        mhe_jax.load(tmp_path / "run")


def test_features_of_other_documents_are_an_error(folder, tmp_path):
    with pytest.raises(ValueError, match=r"embed the same documents.*valid_examples, max_train and max_eval"):
        train_and_evaluate(tiny(folder, "features", **{"data.max_train": 20}), tmp_path)
    other = tmp_path / "features"
    for name in ("train", "val"):
        (other / name).mkdir(parents=True)
        labels = scipy.sparse.load_npz(folder / "features" / name / "labels.npz")
        np.save(other / name / "features.npy", np.load(folder / "features" / name / "features.npy"))
        scipy.sparse.save_npz(other / name / "labels.npz", labels[::-1])
    with pytest.raises(ValueError, match=r"labels\.npz: row \d+ has other labels than that document"):
        train_and_evaluate(tiny(folder, "features", **{"data.features": str(other)}), tmp_path / "run")


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("features", {"data.features": ""}, "config.data.features is empty"),
        ("features", {"data.embedding_dim": 5}, "embedding_dim is 5, but .* has 16"),
        ("features", {"backbone.network.name": "bag"}, "config.backbone.network.name is 'bag', but"),
        ("features", {"backbone.network.input_dim": 5}, "config.backbone.network.input_dim is 5, but features have 16"),
        ("features", {"backbone": {"name": "bag"}}, "config.backbone.name is 'bag', but .* go through 'side_by_side'"),
        ("features", {"backbone": {"name": "side_by_side"}}, "config.backbone.network is missing"),
        ("features", {"backbone.part_length": -1.0}, "config.backbone.part_length is -1.0; it must be at least 0"),
        ("features", {"data.features_dim": 3}, "features_dim is 3, but"),
        ("encoder", {"data.features_dim": 3}, "features_dim is 3, but"),
        ("encoder", {"backbone.network.name": "identity"}, "config.backbone.network.name is 'identity', but"),
        ("encoder", {"backbone.bag.input_dim": 3}, "config.backbone.bag.input_dim is 3, but features have"),
        ("encoder", {"backbone.network.vocab_size": 7}, "config.backbone.network.vocab_size is 7, but the tokenizer"),
    ],
)
def test_what_does_not_belong_together_is_an_error(folder, kind, fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(tiny(folder, kind, **fields), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_told_without_documents(folder, kind):
    fields = {"data.path": "/nowhere", "data.num_classes": 1000, "data.features_dim": 64}
    if kind == "features":
        fields["data.embedding_dim"] = 24
    found = "\n".join(describe(tiny(folder, kind, **fields), siblings=False).facts)
    assert "feature_ids 16x512" in found
    assert ("features 16x24" if kind == "features" else "input_ids 16x12") in found
