"""Batches of features: the same from the device and from the map, and by any number of processes."""

import jax
import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.features.dataset import FeatureSplit
from mhe_jax.data.feeds import eval_feed, train_feed

ROWS, WIDTH, LABELS = 53, 5, 7


def split(resident=True, many=False, **fields):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(ROWS, WIDTH)).astype(np.float16)
    labels = rng.integers(LABELS, size=ROWS).astype(np.int32)
    if many:
        labels = scipy.sparse.random(ROWS, LABELS, density=0.3, format="csr", random_state=rng)
    return FeatureSplit(features, labels, resident, **fields)


def batches(feed, steps):
    """Of each step, as the loop has it."""
    for step in steps:
        piece = {name: value[0] for name, value in feed.chunk(step, 1).items()}
        yield jax.tree.map(np.asarray, jax.jit(feed.batch)(feed.resident, piece))


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("many", [True, False])
def test_a_batch_holds_the_rows_of_its_numbers(resident, many):
    data = split(resident, many)
    feed = train_feed(data, 8, seed=3)
    for batch in batches(feed, range(2 * feed.steps_per_epoch)):
        np.testing.assert_array_equal(batch["features"], data.features[batch["index"]])
        assert batch["features"].dtype == np.float16
        for row, label in zip(batch["index"], batch["label"], strict=True):
            expected = data.labels[row].indices if many else [data.labels[row]]
            np.testing.assert_array_equal(label[label >= 0] if many else [label], expected)


def test_an_epoch_has_each_row_once_and_a_step_depends_on_nothing_before():
    feed = train_feed(split(), 8, seed=3)
    rows = [batch["index"] for batch in batches(feed, range(feed.steps_per_epoch))]
    assert len(set(np.concatenate(rows).tolist())) == 48
    again = train_feed(split(resident=False), 8, seed=3)
    np.testing.assert_array_equal(next(batches(again, [4]))["index"], rows[4])
    assert not np.array_equal(next(batches(feed, [feed.steps_per_epoch]))["index"], rows[0])


def test_several_steps_are_one_chunk():
    feed = train_feed(split(resident=False), 8, seed=3)
    whole = feed.chunk(1, 3)
    assert whole["features"].shape == (3, 8, WIDTH)
    for place in range(3):
        np.testing.assert_array_equal(whole["features"][place], feed.chunk(1 + place, 1)["features"][0])


@pytest.mark.parametrize("resident", [True, False])
def test_the_processes_rows_are_the_whole_batch(resident):
    whole = train_feed(split(resident), 8, seed=3).chunk(2, 2)
    parts = [train_feed(split(resident), 8, seed=3, process_index=i, process_count=2).chunk(2, 2) for i in range(2)]
    for name, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts], axis=1), value)


def test_evaluation_has_each_row_once_with_what_it_leaves_out():
    filtered = scipy.sparse.random(ROWS, LABELS, density=0.2, format="csr", random_state=np.random.default_rng(1))
    scale = np.arange(1, LABELS + 1, dtype=np.float32)
    data = split(many=True, filtered=filtered, inverse_propensity=scale)
    feed = eval_feed(data, 8)
    seen = []
    for batch in batches(feed, range(feed.steps_per_epoch)):
        np.testing.assert_array_equal(batch["inverse_propensity"], scale)
        for row, left_out, weight in zip(batch["index"], batch["filtered"], batch["weight"], strict=True):
            if weight:
                seen.append(row)
                np.testing.assert_array_equal(left_out[left_out >= 0], filtered[row].indices)
    assert seen == list(range(ROWS))
    assert "filtered" not in train_feed(data, 8, seed=0).chunk(0, 1)
