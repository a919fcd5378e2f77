"""Codes by training frequency, of every kind of split."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.codes.frequencies import class_counts
from mhe_jax.codes.sources import Frequency
from mhe_jax.data.dataset import ArraySplit, StreamSplit
from mhe_jax.data.features.dataset import FeatureSplit
from mhe_jax.data.texts.dataset import TextSplit
from mhe_jax.labels import LabelSpace

LABELS = np.array([3, 1, 3, 3, 5, 1, 0], np.int32)
COUNTS = [1, 2, 0, 3, 0, 1, 0]


@dataclasses.dataclass
class Load:
    source: object


@dataclasses.dataclass
class Listed:
    labels: np.ndarray


MANY = scipy.sparse.csr_matrix((np.ones(7), LABELS, [0, 3, 3, 7]), (3, 7))


def documents():
    fields = {field.name: None for field in dataclasses.fields(TextSplit)}
    return TextSplit(**{**fields, "labels": MANY})


SPLITS = {
    "array": lambda: ArraySplit(np.zeros((7, 1, 1, 1), np.uint8), LABELS),
    "stream": lambda: StreamSplit(7, Load(Listed(LABELS))),
    "texts": documents,
    "features": lambda: FeatureSplit(np.zeros((7, 2), np.float32), LABELS, True),
    "features with many labels": lambda: FeatureSplit(np.zeros((3, 2), np.float32), MANY, True),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_the_most_frequent_classes_come_first_and_equals_by_id(kind):
    split = SPLITS[kind]()
    np.testing.assert_array_equal(class_counts(split, 7), COUNTS)
    codes = Frequency().codes(LabelSpace(7, (7,)), (), split, 0)
    assert codes.id_of_code.tolist() == [3, 1, 0, 5, 2, 4, 6]


def test_pictures_that_do_not_tell_their_classes_are_refused():
    with pytest.raises(
        ValueError, match="config.codes.name is 'frequency', but these pictures tell their classes only"
    ):
        class_counts(StreamSplit(7, Load(object())), 7)
    with pytest.raises(ValueError, match="but no training example has a class"):
        class_counts(ArraySplit(np.zeros((0, 1, 1, 1), np.uint8), LABELS[:0]), 7)
