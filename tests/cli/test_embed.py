"""`mhe embed`: the features of a run's splits, and of a pretrained encoder's, as a folder that heads are trained on."""

import json
import shutil

import jax
import numpy as np
import pytest
import scipy.sparse
from ml_collections import ConfigDict

import mhe_jax
from mhe_jax.data.build import build_data
from mhe_jax.inference import embed_splits as module
from mhe_jax.inference.embed_splits import embed_splits
from mhe_jax.interop import huggingface
from mhe_jax.models import build_backbone
from mhe_jax.train import experiment, feature_codes
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config, tiny_face_config, tiny_features_config, tiny_text_config
from tests.command_line import mhe
from tests.data.features.rows import write_features

KINDS = {"pictures": tiny_config, "texts": tiny_text_config}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of two steps of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, made in KINDS.items():
        config = made.get_config()
        config.total_steps, config.eval_every_steps = 2, 0
        train_and_evaluate(config, folder / kind)
    return folder


def embed(workdir, output, **options):
    return embed_splits(experiment.usable_config(workdir), workdir, output, **options)


def load(folder, many):
    name = "features_multilabel" if many else "features"
    return build_data(ConfigDict({"name": name, "path": str(folder), "features_dim": 0})).load()


def data_of(workdir):
    return build_data(experiment.usable_config(workdir).data).load()


def test_pictures_become_what_the_run_makes_of_them(runs, tmp_path):
    assert embed(runs / "pictures", tmp_path / "out") == {"train": (100, 16), "val": (43, 16)}
    found, there = load(tmp_path / "out", many=False), data_of(runs / "pictures")
    for split, images in ((found.train, there.train), (found.eval, there.eval)):
        np.testing.assert_array_equal(split.labels, images.labels)
        expected = mhe_jax.load(runs / "pictures").embed(images.images)
        np.testing.assert_allclose(split.features, expected, rtol=1e-3, atol=1e-3)
        assert split.features.dtype == np.float16
    assert found.class_names == tuple(map(str, range(19)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["classes.txt", "train", "val"]


def test_documents_become_rows_in_their_own_order(runs, tmp_path):
    """They are embedded in the order of their lengths."""
    embed(runs / "texts", tmp_path / "out", dtype="float32")
    found, there = load(tmp_path / "out", many=True), data_of(runs / "texts")
    run = mhe_jax.load(runs / "texts")
    for split, texts in ((found.train, there.train), (found.eval, there.eval)):
        assert (split.labels != texts.labels).nnz == 0
        starts = zip(texts.offsets[:9], texts.offsets[1:10], strict=True)
        # The first token is the tokenizer's own.
        asked = [" ".join(map(str, texts.tokens[start + 1 : end])) for start, end in starts]
        np.testing.assert_allclose(split.features[:9], run.embed(asked), rtol=1e-4, atol=1e-5)


def test_pooling_may_be_another(runs, tmp_path):
    embed(runs / "texts", tmp_path / "mean")
    embed(runs / "texts", tmp_path / "first", pooling="first")
    mean, first = (np.load(tmp_path / name / "val" / "features.npy") for name in ("mean", "first"))
    assert mean.shape == first.shape
    assert not np.allclose(mean, first)
    with pytest.raises(ValueError, match="--pooling is of encoders of texts, but config.backbone.name is 'convnet'"):
        embed(runs / "pictures", tmp_path / "out", pooling="mean")


def test_filtered_labels_go_with_the_features(tmp_path_factory, tmp_path):
    """Features of features."""
    source = tmp_path_factory.mktemp("source")
    write_features(source, multilabel=True)
    filtered = scipy.sparse.random(21, 11, density=0.2, format="csr", random_state=0)
    scipy.sparse.save_npz(source / "val" / "filtered.npz", filtered)
    config = tiny_features_config.get_config("multilabel", "ohe")
    config.data.path, config.total_steps, config.eval_every_steps = str(source), 2, 0
    train_and_evaluate(config, tmp_path / "run")
    embed(tmp_path / "run", tmp_path / "out")
    found = load(tmp_path / "out", many=True)
    np.testing.assert_array_equal(found.eval.filtered.indices, filtered.indices)
    assert found.test.num_examples == 13


def interrupt(monkeypatch, after):
    """Ends the process, as it were, after so many batches."""

    def cut(*arguments):
        for number, batch in enumerate(iterate(*arguments)):
            if number == after:
                raise KeyboardInterrupt
            yield batch

    iterate = module.embedded
    monkeypatch.setattr(module, "embedded", cut)


@pytest.mark.parametrize("kind", ["pictures", "texts"])
def test_an_interrupted_call_goes_on(runs, kind, tmp_path, monkeypatch):
    embed(runs / kind, tmp_path / "whole")
    monkeypatch.setattr(module, "_EVERY", 1)
    with monkeypatch.context() as patched:
        interrupt(patched, after=2)
        with pytest.raises(KeyboardInterrupt):
            embed(runs / kind, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "progress.json").read_text())["done"] == {"train": 2}
    seen = []
    add = module.FolderWriter.split
    with monkeypatch.context() as patched:
        patched.setattr(module.FolderWriter, "split", lambda self, *a: seen.append(self.done(a[0])) or add(self, *a))
        embed(runs / kind, tmp_path / "out")
    assert seen == [2, 0]
    for path in (tmp_path / "whole").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes(), path
    assert not (tmp_path / "out" / "progress.json").exists()


def test_what_is_begun_is_not_gone_on_with_by_another_model(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_EVERY", 1)
    with monkeypatch.context() as patched:
        interrupt(patched, after=1)
        with pytest.raises(KeyboardInterrupt):
            embed(runs / "texts", tmp_path / "out")
    for change in ({"pooling": "last"}, {"dtype": "float32"}):
        with pytest.raises(
            ValueError, match=r"out holds unfinished features of something else, by (model|dtype): remove"
        ):
            embed(runs / "texts", tmp_path / "out", **change)
    (tmp_path / "out" / "progress.json").write_text("{")
    with pytest.raises(ValueError, match=r"progress\.json is damaged"):
        embed(runs / "texts", tmp_path / "out")


def test_what_is_begun_is_not_gone_on_with_by_other_weights(runs, tmp_path, monkeypatch):
    """Of the same run, which has trained on; where it lies is all the same."""
    shutil.copytree(runs / "pictures", tmp_path / "run")
    monkeypatch.setattr(module, "_EVERY", 1)
    with monkeypatch.context() as patched:
        interrupt(patched, after=1)
        with pytest.raises(KeyboardInterrupt):
            embed(tmp_path / "run", tmp_path / "out")
    (tmp_path / "run").rename(tmp_path / "moved")
    begun = json.loads((tmp_path / "out" / "progress.json").read_text())
    weights = feature_codes.first_weights
    with monkeypatch.context() as patched:
        others = lambda *arguments: jax.tree.map(lambda x: x + 1, weights(*arguments))
        patched.setattr(feature_codes, "first_weights", others)
        with pytest.raises(ValueError, match=r"out holds unfinished features of something else, by weights: remove it"):
            embed(tmp_path / "moved", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "progress.json").read_text()) == begun
    embed(tmp_path / "moved", tmp_path / "out")


def test_what_is_complete_is_not_overwritten(runs, tmp_path):
    embed(runs / "pictures", tmp_path / "out")
    with pytest.raises(ValueError, match=r"out/train is there already: remove it, or choose another folder"):
        embed(runs / "pictures", tmp_path / "out")


def test_features_that_float16_cannot_hold_are_told(runs, tmp_path, monkeypatch):
    def large(*arguments):
        for batch in iterate(*arguments):
            yield batch._replace(features=np.where((batch.rows == 40)[:, None], np.float32(1e5), batch.features))

    iterate = module.embedded
    monkeypatch.setattr(module, "embedded", lambda *arguments: large(*arguments))
    with pytest.raises(ValueError, match=r"train/features\.npy: row 40 is too large for float16: write float32"):
        embed(runs / "pictures", tmp_path / "out")


def test_faces_have_features_of_their_own(runs, tmp_path):
    config = tiny_face_config.get_config()
    config.init_from = str(runs / "pictures")
    with pytest.raises(ValueError, match="pairs of faces have no labels; see `mhe predict`"):
        embed_splits(config, None, tmp_path / "out")


def test_a_pretrained_encoder_needs_no_run(tmp_path):
    """Its folder has random weights here; they are those that the features come from."""
    config = tiny_text_config.get_config()
    section = ConfigDict({"name": "bert", "vocab_size": 97, "hidden_size": 8, "num_layers": 1, "num_heads": 2})
    section.update(intermediate_size=8)
    variables = build_backbone(section, np.float32).init(
        jax.random.key(3), np.ones((1, 4), np.int32), np.full(1, 4), train=False
    )
    huggingface.save_encoder(variables["params"], section, tmp_path / "encoder")
    config.backbone = {"name": "pretrained", "checkpoint": str(tmp_path / "encoder"), "pooling": "mean"}
    assert embed_splits(config, None, tmp_path / "out", "float32") == {"train": (100, 8), "val": (43, 8)}
    split = build_data(config.data).load().eval
    tokens, length = split.tokens[None, : split.offsets[1]], split.offsets[1:2]
    section.pooling = "mean"
    expected = build_backbone(section, np.float32).apply(variables, tokens, length, train=False)
    np.testing.assert_allclose(load(tmp_path / "out", many=True).eval.features[:1], expected, rtol=1e-4, atol=1e-5)


def test_a_backbone_without_weights_is_told(tmp_path):
    with pytest.raises(ValueError, match="the backbone 'convnet' has no weights: name a run by --workdir"):
        embed_splits(tiny_config.get_config(), None, tmp_path / "out")


def command(*arguments):
    return mhe("embed", *arguments)


@pytest.mark.slow
def test_the_command_line(runs, tmp_path):
    done = command(f"--workdir={runs / 'pictures'}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "100 x 16 in train/, 43 x 16 in val/" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=out"], "one of --workdir and --config is needed"),
        (["--output=out", "--workdir=run", "--config=glyphs_ohe"], "one of --workdir and --config is needed"),
        (["--workdir=run"], "--output"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    done = command(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
