"""Codes by the features that a network has before the run's first step."""

import re

import numpy as np
import pytest

from mhe_jax.codes.clustering import clustered
from mhe_jax.codes.vectors import ClassMeans
from mhe_jax.inference.embed_splits import embed_splits
from mhe_jax.labels import LabelSpace
from mhe_jax.recipes import heads
from mhe_jax.train import label_codes
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config, tiny_face_config, tiny_text_config
from tests.train.saved import assert_same, final_weights


def pictures(**fields):
    config = tiny_config.get_config()
    config.head, config.total_steps = heads.mhc((4, 5)), 2
    config.codes = {"name": "pretrained"}
    for name, value in fields.items():
        config[name] = value
    return config


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A run with a backbone to begin with."""
    workdir = tmp_path_factory.mktemp("before")
    train_and_evaluate(pictures(head=heads.ohe(), codes={"name": "identity"}), workdir)
    return workdir


def test_they_are_clusters_of_the_class_means_of_the_backbone_that_the_run_begins_with(before, tmp_path):
    config = pictures(init_from=str(before), init_parts=("backbone",))
    train_and_evaluate(config, tmp_path / "run")
    embed_splits(config, None, tmp_path / "features", "float32")
    features, labels = (np.load(tmp_path / f"features/train/{name}.npy") for name in ("features", "labels"))
    means = ClassMeans(19, features.shape[1])
    means.add(features, labels)
    expected = clustered(means.vectors, LabelSpace(19, (4, 5)), config.seed, means.present)
    assert label_codes.stored(tmp_path / "run", 19).digest == expected.digest
    assert not expected.is_identity


def test_a_run_that_is_interrupted_goes_on_with_the_codes_that_it_has(before, tmp_path):
    config = pictures(init_from=str(before), init_parts=("backbone",))
    train_and_evaluate(config, tmp_path / "whole")
    train_and_evaluate(config, tmp_path / "parts", interrupt_at=1)
    train_and_evaluate(config, tmp_path / "parts")
    assert_same(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "config.codes.name is 'pretrained', but the backbone 'convnet' begins at random: take 'warmup'"),
        (
            {"init_from": "nowhere"},
            "config.init_parts is ('backbone', 'head'), but codes.name = 'pretrained' finds new codes, and the weights "
            "of a head 'mhc' belong to its own",
        ),
    ],
)
def test_codes_that_cannot_be_are_an_error(tmp_path, fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        train_and_evaluate(pictures(**fields), tmp_path)


def test_faces_are_clustered_too(tmp_path):
    config = tiny_face_config.get_config()
    config.total_steps = 1
    train_and_evaluate(config, tmp_path / "before")
    config.head = {**heads.face_mhc((4, 5)), "margin": heads.margin("arcface", scale=16.0, m=0.2)}
    config.codes, config.init_parts = {"name": "pretrained"}, ("backbone",)
    config.init_from = str(tmp_path / "before")
    train_and_evaluate(config, tmp_path / "run")
    assert not label_codes.stored(tmp_path / "run", config.data.num_classes).is_identity


def test_an_encoder_of_texts_is_asked_what_labels_are_about(tmp_path):
    config = tiny_text_config.get_config()
    train_and_evaluate(config, tmp_path / "before")
    config.head = {**heads.xmc_mhc((11, 5)), "num_candidates": 4, "hidden_dim": 8}
    config.codes, config.init_parts = {"name": "pretrained"}, ("backbone",)
    config.init_from, config.total_steps = str(tmp_path / "before"), 1
    train_and_evaluate(config, tmp_path / "run")
    assert not label_codes.stored(tmp_path / "run", config.data.num_classes).is_identity
