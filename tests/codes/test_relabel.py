"""Relabelled splits: batches hold codes where they held ids, in the same places."""

import contextlib

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.codes.relabel import relabelled
from mhe_jax.data.dataset import ArraySplit, DataError, PairedSplit, StreamSplit
from mhe_jax.data.feeds import eval_feed, train_feed
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.texts.dataset import Texts, TextSplit
from mhe_jax.labels import LabelCodes

CODES = LabelCodes.of(np.random.default_rng(1).permutation(7))


def pictures(kind):
    labels = np.arange(20, dtype=np.int32) % 7
    images = np.zeros((20, 2, 2, 1), np.uint8)
    if kind == "array":
        return ArraySplit(images, labels)
    return StreamSplit(20, lambda index, rng: (images[index], int(labels[index])))


def chunk(feed):
    with contextlib.closing(feed):
        return feed.resident, feed.chunk(0, 1)


def test_pictures_in_memory_and_streamed():
    eval_split = PairedSplit(pictures("array"), ())
    data = Images(pictures("array"), eval_split, ("a",) * 7, test=pictures("stream"))
    found = relabelled(data, CODES)
    np.testing.assert_array_equal(found.train.labels, CODES.code_of_id[data.train.labels])
    assert found.train.labels.dtype == np.int32
    assert found.eval is eval_split
    assert found.class_names is data.class_names
    for feed in (eval_feed, lambda split, size: train_feed(split, size, seed=3)):
        before, after = (chunk(feed(split, 5))[1] for split in (data.test, found.test))
        np.testing.assert_array_equal(after["label"], CODES.code_of_id[before["label"]])
        assert after["label"].dtype == before["label"].dtype


def test_a_streamed_example_without_a_code_is_refused():
    """Sources that know no labels beforehand, such as TFDS's, are seen through by nobody else."""
    data = Images(pictures("stream"), None, ())
    split = relabelled(data, LabelCodes.placed([0, 1, 2, 3, -1, 5, 6], 7)).train
    with pytest.raises(DataError, match="example 4 is of the data's class 4, which this run has retired"):
        chunk(eval_feed(split, 5))


def test_the_identity_gives_back_the_data():
    data = Images(pictures("array"), pictures("array"), ())
    assert relabelled(data, LabelCodes.identity(7)) is data


def texts(**fields):
    labels = scipy.sparse.csr_matrix(
        (np.array([1, 2, 1, 1], np.float32), np.array([1, 6, 0, 3]), np.array([0, 2, 2, 4])), (3, 7)
    )
    return TextSplit(np.arange(6, dtype=np.int32), np.array([0, 2, 3, 6]), labels, 2, (4,), 1, **fields)


def test_labels_filtered_ones_and_propensities_move_together():
    filtered = scipy.sparse.csr_matrix(([True], [5], [0, 0, 1, 1]), (3, 7))
    inverse = np.linspace(1, 2, 7, dtype=np.float32)
    data = Texts(
        texts(listed=np.array([6, 1, 0, 3], np.int32)),
        texts(filtered=filtered, inverse_propensity=inverse),
        None,
        (),
        {},
    )
    found = relabelled(data, CODES)
    before, after = (chunk(eval_feed(of.eval, 3)) for of in (data, found))
    for name in ("label", "filtered"):
        np.testing.assert_array_equal(after[1][name], CODES.codes(before[1][name]))
        assert after[1][name].dtype == np.int32
    np.testing.assert_array_equal(after[0]["inverse_propensity"][CODES.code_of_id], inverse)
    # In training the first labels of a line, whatever their codes.
    before, after = (chunk(train_feed(of.train, 3, seed=0))[1] for of in (data, found))
    np.testing.assert_array_equal(after["label"], CODES.codes(before["label"]))
    assert found.train.labels[0, CODES.code_of_id[6]] == 2
    assert found.test is None


def test_labels_without_a_code_leave_those_behind_them_in_their_places():
    labels = scipy.sparse.csr_matrix((np.ones(5, np.float32), [0, 2, 1, 0, 1], [0, 2, 3, 5]), (3, 3))
    ends, listed = np.array([0, 2, 3, 6]), np.array([2, 0, 1, 1, 0], np.int32)
    split = TextSplit(np.arange(6, dtype=np.int32), ends, labels, 2, (4,), 1, listed=listed)
    found = relabelled(Texts(split, split, None, (), {}), LabelCodes.placed([0, 1, -1], 3)).train
    rows = chunk(train_feed(found, 3, seed=0))[1]
    assert {tuple(row) for row in rows["label"][0].tolist()} == {(0, -1), (1, -1), (1, 0)}
