"""Vectors of classes: means of examples, and of labels by the words of their documents."""

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.codes.label_vectors import label_features, label_vectors
from mhe_jax.codes.sources import Labels
from mhe_jax.codes.vectors import ClassMeans
from mhe_jax.data.features.dataset import FeatureSplit
from mhe_jax.data.texts.dataset import TextSplit
from mhe_jax.labels import LabelSpace


def test_means_are_directions_in_any_batches():
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(6, size=50)
    means = ClassMeans(7, 3)
    for start in range(0, 50, 13):
        means.add(vectors[start : start + 13], labels[start : start + 13])
    np.testing.assert_array_equal(means.counts, np.bincount(labels, minlength=7))
    assert means.present.tolist() == [True] * 6 + [False]
    for label in range(6):
        mean = vectors[labels == label].mean(axis=0)
        np.testing.assert_allclose(means.vectors[label], mean / np.linalg.norm(mean), rtol=1e-4)
    np.testing.assert_array_equal(means.vectors[6], 0)


def test_many_labels_each_count():
    means = ClassMeans(3, 2)
    means.add(np.array([[1, 0], [0, 1]], np.float32), np.array([[0, 2], [2, -1]]))
    assert means.counts.tolist() == [1, 0, 2]
    np.testing.assert_allclose(means.vectors, [[1, 0], [0, 0], [2**-0.5, 2**-0.5]])


def documents(num_topics=4, per_topic=30, labels_of_topic=5, seed=0):
    """Documents of words of their topic, and of one that all have; labels of their topic."""
    rng = np.random.default_rng(seed)
    topics = rng.permutation(np.repeat(np.arange(num_topics), per_topic))
    tokens = [np.append(rng.integers(20, size=15) + 1 + 20 * topic, 0) for topic in topics]
    # Labels of a topic are num_topics apart, so that ids say nothing.
    labels = [rng.choice(labels_of_topic, 2, replace=False) * num_topics + topic for topic in topics]
    ends = np.arange(len(topics) + 1)
    matrix = scipy.sparse.csr_matrix((np.ones(2 * len(topics)), np.concatenate(labels), 2 * ends))
    return TextSplit(np.concatenate(tokens).astype(np.int32), 16 * ends.astype(np.int64), matrix, 2, (16,), 1)


def test_labels_of_one_topic_share_a_group():
    space = LabelSpace(20, (4, 5))
    codes = Labels().codes(space, (), documents(), 0)
    for group in range(4):
        assert len(np.unique(codes.id_of_code[5 * group : 5 * group + 5] % 4)) == 1


def test_relevances_do_not_count():
    split = documents()
    before = label_vectors(split).vectors
    split.labels.data[:] = 7
    np.testing.assert_array_equal(label_vectors(split).vectors, before)


def test_the_documents_stay_as_they_are():
    split = documents()
    split.tokens.flags.writeable = split.offsets.flags.writeable = False
    label_vectors(split)
    np.testing.assert_array_equal(split.tokens, documents().tokens)


def test_documents_that_are_all_alike_tell_nothing():
    labels = scipy.sparse.csr_matrix(np.eye(3))
    split = TextSplit(np.array([5, 5, 5], np.int32), np.arange(4), labels, 1, (1,), 1)
    with pytest.raises(ValueError, match="but these have the same tokens"):
        label_vectors(split)


def test_one_label_an_example_has_no_documents():
    with pytest.raises(ValueError, match="config.codes.name is 'labels', but it is for data with many labels"):
        Labels().codes(LabelSpace(4, (2, 2)), (), None, 0)


def test_vectors_of_labels_are_the_directions_of_their_rows_sums():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(37, 5)).astype(np.float16)
    labels = scipy.sparse.csr_matrix((rng.random((37, 7)) < 0.3) * (np.arange(7) != 3), dtype=np.float32)
    found = label_features(FeatureSplit(features, labels, resident=False))
    sums = (labels.toarray() != 0).T.astype(np.float32) @ features.astype(np.float32)
    np.testing.assert_array_equal(found.present, np.arange(7) != 3)
    expected = sums[found.present] / np.linalg.norm(sums[found.present], axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors[found.present], expected, rtol=1e-5)
    assert not found.vectors[3].any()
