import pytest
from ml_collections import ConfigDict

from mhe_jax.data.build import DATA, build_data
from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.texts.sparse.dataset import SparseData

FIELDS = {
    "cifar10": {"path": "/none"},
    "cifar100": {"path": "/none"},
    "face_folder": {"path": "/none", "eval_sets": ["lfw.bin"], "image_size": 24},
    "face_glyphs": {"image_size": 24},
    "face_records": {"path": "/none", "eval_sets": ["lfw.bin", "pairs.txt"]},
    "face_synthetic": {"num_classes": 5, "image_shape": [24, 24, 1]},
    "features": {"path": "/none", "features_dim": 24},
    "features_multilabel": {"path": "/none", "features_dim": 24, "propensity": [0.6, 2.6]},
    "features_words": {"path": "/none", "features": "/none", "embedding_dim": 24},
    "glyphs": {"image_size": 24},
    "image_folder": {"path": "/none", "image_size": 24},
    "imagenet": {"path": "/none"},
    "labelled_images": {"path": "/none", "image_size": 24},
    "sparse": {"path": "/none"},
    "synthetic": {"num_classes": 5, "image_shape": [24, 24, 1]},
    "synthetic_text": {"num_classes": 5, "lengths": [3, 9]},
    "tfds": {"path": "/none", "dataset": "x"},
    "unicode": {"max_length": 24},
    "words": {"path": "/none", "ngrams": [1, 2]},
    "xmc": {"path": "/none", "tokenizer": "/none", "bucket_lengths": [8, 24]},
    "xmc_words": {"path": "/none", "tokenizer": "/none", "ngrams": [1, 2]},
}
SHAPES = {
    "face_folder": (24, 24, 3),
    "face_glyphs": (24, 24, 1),
    "face_synthetic": (24, 24, 1),
    "glyphs": (24, 24, 1),
    "image_folder": (24, 24, 3),
    "labelled_images": (24, 24, 3),
    "synthetic": (24, 24, 1),
}
DEFAULT_SHAPES = {
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
    "face_records": (112, 112, 3),
    "imagenet": (224, 224, 3),
    "tfds": (224, 224, 3),
}


def test_every_data_set_is_built_without_reading_a_file():
    assert set(FIELDS) == set(DATA)
    for name, fields in FIELDS.items():
        data = build_data(ConfigDict({"name": name, "last_batch": "keep", **fields}))
        assert type(data) is DATA[name]
        assert data.last_batch == "keep"
        if isinstance(data, ImageData):
            assert data.image_shape == (SHAPES | DEFAULT_SHAPES)[name]
        elif isinstance(data, SparseData):
            assert data.abstract_batch(3)["feature_ids"].shape == (3, 512)
        elif isinstance(data, FeatureData):
            assert data.abstract_batch(3)["features"].shape == (3, 24)
        else:
            assert data.abstract_batch(3)["input_ids"].shape == (3, data.max_length)


def test_unknown_fields_and_names_are_errors():
    with pytest.raises(
        ValueError, match=r"config\.data\.size is not a field of 'glyphs', which takes: num_classes, last"
    ):
        build_data(ConfigDict({"name": "glyphs", "size": 3}))
    with pytest.raises(ValueError, match=r"config\.data\.name is 'mnist'; it must be one of cifar10, cifar100"):
        build_data(ConfigDict({"name": "mnist"}))
    with pytest.raises(ValueError, match=r"config\.data\.path is missing"):
        build_data(ConfigDict({"name": "cifar10"}))
