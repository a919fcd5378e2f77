import numpy as np
import pytest

from mhe_jax.data.order import EpochOrder, EvalOrder
from mhe_jax.data.texts.buckets import LengthOrder, bucket_lengths, fit, training_order


def lengths_of(count, seed=0, longest=100):
    return np.random.default_rng(seed).integers(1, longest + 1, count)


def order_of(count=103, batch_size=7, buckets=(16, 64, 100), window=3, last_batch="drop", seed=4):
    lengths = lengths_of(count)
    base = EpochOrder(count, batch_size, seed, last_batch)
    return base, lengths, LengthOrder(base, lengths, buckets, window)


def test_default_buckets_are_powers_of_two_up_to_max_length():
    assert bucket_lengths((), 512) == (16, 32, 64, 128, 256, 512)
    assert bucket_lengths((), 100) == (16, 32, 64, 100)
    assert bucket_lengths((), 16) == (16,)
    assert bucket_lengths((), 2) == (2,)


def test_chosen_buckets_are_sorted_and_end_at_max_length():
    assert bucket_lengths((64, 24, 64, 300), 128) == (24, 64, 128)
    with pytest.raises(ValueError, match="every length must be at least 1"):
        bucket_lengths((0, 8), 128)


def test_fit_takes_the_smallest_that_holds():
    assert fit((4, 8, 20), np.array([1, 4, 5, 8, 9, 20])).tolist() == [4, 4, 8, 8, 20, 20]


@pytest.mark.parametrize("window", [1, 2, 5, 100])
@pytest.mark.parametrize("count", [7, 21, 103])
def test_an_epoch_holds_every_document_once(count, window):
    lengths = lengths_of(count)
    kept = training_order(lengths, 7, 1, 2, window, "keep")
    np.testing.assert_array_equal(np.sort(kept), np.arange(count))
    dropped = training_order(lengths, 7, 1, 2, window, "drop")
    np.testing.assert_array_equal(dropped, kept[: count // 7 * 7])


def test_a_window_of_one_batch_is_the_plain_shuffle():
    lengths = lengths_of(103)
    base = EpochOrder(103, 7, seed=1, last_batch="keep")
    plain = np.concatenate([base.rows(step).index for step in range(2 * 15, 3 * 15)])
    np.testing.assert_array_equal(training_order(lengths, 7, 1, 2, 1, "keep"), plain)


def test_the_batches_are_those_of_sorted_windows_in_another_order():
    count, batch_size, window = 103, 7, 3
    lengths = lengths_of(count)
    order = training_order(lengths, batch_size, 1, 2, window, "drop")
    permutation = np.random.default_rng((1, 2)).permutation(count)[:98]
    expected = []
    for start in range(0, 98, window * batch_size):
        ordered = sorted(permutation[start : start + window * batch_size], key=lambda document: lengths[document])
        expected += [tuple(ordered[place : place + batch_size]) for place in range(0, len(ordered), batch_size)]
    found = [tuple(batch) for batch in order.reshape(-1, batch_size)]
    assert sorted(found) == sorted(expected)
    assert found != expected


def test_epochs_and_seeds_differ_and_repeat():
    lengths = lengths_of(50)
    orders = [training_order(lengths, 5, seed, epoch, 4, "drop").tolist() for seed in range(3) for epoch in range(3)]
    assert len(set(map(tuple, orders))) == 9
    assert orders[4] == training_order(lengths, 5, 1, 1, 4, "drop").tolist()


def test_sorting_pads_little():
    lengths = lengths_of(2000, longest=512)
    buckets = bucket_lengths((), 512)

    def padded(window):
        order = LengthOrder(EpochOrder(2000, 10, seed=0), lengths, buckets, window)
        return sum(order.length(step) * 10 for step in range(200)) / lengths.sum()

    assert padded(50) < 1.45 < 1.8 < padded(1)


@pytest.mark.parametrize("last_batch", ["drop", "keep"])
def test_a_step_is_as_long_as_its_longest_document_needs(last_batch):
    base, lengths, order = order_of(last_batch=last_batch)
    for step in (0, 3, base.steps_per_epoch - 1, 5 * base.steps_per_epoch + 2):
        rows = order.rows(step)
        assert order.length(step) == min(b for b in (16, 64, 100) if b >= lengths[rows.index].max())
        assert rows.epoch == step // base.steps_per_epoch
        assert rows.weight.tolist() == [1.0] * base.size(step)


def test_equal_steps_share_length_and_size():
    base, _, order = order_of(count=1003, window=1, buckets=(90, 98, 100), last_batch="keep")
    for step in range(2 * base.steps_per_epoch):
        shape = lambda s: (order.length(s), base.size(s))
        left = base.steps_per_epoch - step % base.steps_per_epoch
        expected = next((n for n in range(1, left) if shape(step + n) != shape(step)), left)
        assert order.equal_steps(step) == expected
    assert max(order.equal_steps(step) for step in range(base.steps_per_epoch)) > 2
    assert order.equal_steps(base.steps_per_epoch - 1) == 1


@pytest.mark.parametrize("count", [1, 6, 13])
def test_evaluation_sees_every_document_once_the_shortest_first(count):
    lengths = lengths_of(count)
    base = EvalOrder(count, 6)
    order = LengthOrder(base, lengths, (16, 64, 100), 50)
    rows = [order.rows(step) for step in range(base.steps_per_epoch)]
    index, weight = (np.concatenate([getattr(row, name) for row in rows]) for name in ("index", "weight"))
    assert len(index) == base.steps_per_epoch * 6
    np.testing.assert_array_equal(np.sort(index[weight == 1]), np.arange(count))
    assert (np.diff(lengths[index[weight == 1]]) >= 0).all()
    for step, row in enumerate(rows):
        assert lengths[row.index].max() <= order.length(step)
