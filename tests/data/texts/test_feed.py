import time

import jax
import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.feeds import eval_feed, train_feed
from mhe_jax.data.texts.dataset import TextSplit
from mhe_jax.data.texts.feed import TextFeed

LABELS = 23


def sparse(rows, columns=LABELS, dtype=np.float32):
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.concatenate([np.sort(row) for row in rows]).astype(np.int32)
    return scipy.sparse.csr_matrix((np.ones(len(indices), dtype), indices, indptr), (len(rows), columns))


def documents(count=53, seed=0):
    """Tokens and labels of each document; the first has neither labels nor more than one token."""
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(1, 1000, size=rng.integers(1, 33)) for _ in range(count)]
    labels = [rng.permutation(LABELS)[: rng.integers(0, 6)] for _ in range(count)]
    tokens[0], labels[0] = tokens[0][:1], labels[0][:0]
    return tokens, labels


def split_of(tokens, labels, **fields):
    given = {"label_width": 5, "bucket_lengths": (8, 16, 32), "sort_window": 3, **fields}
    offsets = np.cumsum([0, *map(len, tokens)])
    return TextSplit(np.concatenate(tokens).astype(np.int32), offsets, sparse(labels), **given)


def batches(feed, step, count):
    chunk = feed.chunk(step, count)
    pieces = [{name: value[place] for name, value in chunk.items()} for place in range(count)]
    return [jax.tree.map(np.asarray, jax.jit(feed.batch)(feed.resident, piece)) for piece in pieces]


def epoch(feed, number=0):
    steps = range(number * feed.steps_per_epoch, (number + 1) * feed.steps_per_epoch)
    return [batches(feed, step, 1)[0] for step in steps]


def contents(batch):
    """(tokens, labels) of every row that counts."""
    rows = zip(batch["input_ids"], batch["length"], batch["label"], batch["weight"], strict=True)
    return [(tuple(ids[:n]), tuple(row[row >= 0])) for ids, n, row, weight in rows if weight]


def expected_contents(tokens, labels):
    return sorted((tuple(t), tuple(np.sort(row))) for t, row in zip(tokens, labels, strict=True))


def test_an_epoch_holds_every_document_with_its_labels():
    tokens, labels = documents()
    feed = train_feed(split_of(tokens, labels), 7, seed=1, last_batch="keep")
    assert isinstance(feed, TextFeed)
    for number in (0, 1):
        found = [row for batch in epoch(feed, number) for row in contents(batch)]
        assert sorted(found) == expected_contents(tokens, labels)


def test_batches_are_padded_to_the_bucket_and_the_width():
    tokens, labels = documents()
    feed = train_feed(split_of(tokens, labels), 7, seed=1)
    lengths = set()
    for batch in epoch(feed):
        assert {name: (v.dtype, v.shape[0]) for name, v in batch.items()} == {
            "input_ids": (np.int32, 7),
            "length": (np.int32, 7),
            "label": (np.int32, 7),
            "weight": (np.float32, 7),
        }
        width = batch["input_ids"].shape[1]
        assert width == min(b for b in (8, 16, 32) if b >= batch["length"].max())
        behind = np.arange(width)[None] >= batch["length"][:, None]
        assert not batch["input_ids"][behind].any()
        assert batch["input_ids"][~behind].all()
        assert batch["label"].shape == (7, 5)
        lengths.add(width)
    assert len(lengths) > 1


def test_a_narrow_width_keeps_the_lowest_labels():
    tokens, labels = documents()
    feed = train_feed(split_of(tokens, labels, label_width=2), 53, seed=0)
    found = contents(epoch(feed)[0])
    cut = [np.sort(row)[:2] for row in labels]
    assert sorted(found) == expected_contents(tokens, cut)


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("make", [train_feed, eval_feed])
def test_processes_together_make_the_single_process_batch(make, processes):
    split = split_of(*documents())
    fields = {"seed": 1} if make is train_feed else {}
    whole = make(split, 8, **fields)
    parts = [make(split, 8, process_index=i, process_count=processes, **fields) for i in range(processes)]
    for batch, *shares in zip(epoch(whole), *map(epoch, parts), strict=True):
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda *rows: np.concatenate(rows), *shares), batch)


def test_steps_of_one_shape_may_be_one_chunk_and_others_may_not():
    feed = train_feed(split_of(*documents(200)), 4, seed=1)
    runs = [feed.equal_steps(step) for step in range(feed.steps_per_epoch)]
    step = int(np.argmax(runs))
    count = runs[step]
    assert 1 < count < feed.steps_per_epoch
    together, alone = batches(feed, step, count), [batches(feed, step + i, 1)[0] for i in range(count)]
    jax.tree.map(np.testing.assert_array_equal, together, alone)
    with pytest.raises(ValueError, match=f"steps {step} to {step + count} differ in length or size"):
        feed.chunk(step, count + 1)


def test_a_resumed_feed_goes_on_where_the_first_one_was():
    split = split_of(*documents())
    first = train_feed(split, 7, seed=2)
    whole = [batches(first, step, 1)[0] for step in range(9)]
    jax.tree.map(np.testing.assert_array_equal, batches(train_feed(split, 7, seed=2), 8, 1)[0], whole[8])
    jax.tree.map(np.testing.assert_array_equal, batches(first, 1, 1)[0], whole[1])


def test_evaluation_numbers_the_documents_and_masks_the_rest():
    tokens, labels = documents()
    feed = eval_feed(split_of(tokens, labels), 8)
    found = epoch(feed)
    assert "filtered" not in found[0]
    assert "inverse_propensity" not in found[0]
    numbers = np.concatenate([batch["index"][batch["weight"] == 1] for batch in found])
    np.testing.assert_array_equal(np.sort(numbers), np.arange(53))
    rows = [row for batch in found for row in contents(batch)]
    for number, (ids, row) in zip(numbers, rows, strict=True):
        assert ids == tuple(tokens[number])
        assert row == tuple(np.sort(labels[number]))
    assert found[-1]["weight"].tolist() == [1.0] * 5 + [0.0] * 3


def test_evaluation_brings_filtered_labels_and_propensities():
    tokens, labels = documents()
    filtered = [[] for _ in tokens]
    filtered[3], filtered[50] = [4, 1, 9], [22]
    scores = np.linspace(1, 2, LABELS, dtype=np.float32)
    split = split_of(tokens, labels, filtered=sparse(filtered, dtype=bool), inverse_propensity=scores)
    for batch in epoch(eval_feed(split, 8)):
        np.testing.assert_array_equal(batch["inverse_propensity"], scores)
        assert batch["filtered"].shape == (8, 3)
        for number, row in zip(batch["index"], batch["filtered"], strict=True):
            assert row.tolist() == [*sorted(filtered[number]), -1, -1, -1][:3]
    training = train_feed(split, 8, seed=0)
    assert training.resident == {}
    assert {"filtered", "index"}.isdisjoint(training.chunk(0, 1))


def test_batches_that_do_not_divide_are_errors():
    split = split_of(*documents())
    with pytest.raises(ValueError, match="global_batch_size is 6; it must be a multiple of 4"):
        train_feed(split, 6, seed=0, num_devices=4)
    with pytest.raises(ValueError, match="the training split has 53 examples"):
        train_feed(split, 64, seed=0)


def test_a_batch_of_one():
    tokens, labels = documents(3)
    found = [row for batch in epoch(train_feed(split_of(tokens, labels), 1, seed=0)) for row in contents(batch)]
    assert sorted(found) == expected_contents(tokens, labels)


def test_a_large_batch_is_gathered_in_milliseconds():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 257, 20_000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(1, 30_000, offsets[-1]).astype(np.int32)
    labels = sparse(list(rng.integers(0, 100_000, (20_000, 5)).astype(np.int32)), 100_000)
    feed = train_feed(TextSplit(tokens, offsets, labels, 5, (64, 128, 256), 50), 256, seed=0)
    feed.chunk(0, 1)
    times = []
    for step in range(1, 20):
        start = time.perf_counter()
        feed.chunk(step, 1)
        times.append(time.perf_counter() - start)
    # A loop over documents takes more than ten times as long.
    assert np.median(times) < 0.02
