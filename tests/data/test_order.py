import numpy as np
import pytest

from mhe_jax.data import order as order_module
from mhe_jax.data.order import EpochOrder, EvalOrder, example_rng


def test_every_example_once_per_epoch_and_differently_each_time():
    order = EpochOrder(23, 5, seed=3, last_batch="keep")
    epochs = [np.concatenate([order.rows(step).index for step in range(e * 5, e * 5 + 5)]) for e in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(23))
    assert not np.array_equal(epochs[0], epochs[1])
    np.testing.assert_array_equal(epochs[2], np.random.default_rng((3, 2)).permutation(23))


def test_drop_leaves_out_the_rest_and_keep_makes_a_short_batch():
    drop, keep = EpochOrder(23, 5, seed=0), EpochOrder(23, 5, seed=0, last_batch="keep")
    assert (drop.steps_per_epoch, keep.steps_per_epoch) == (4, 5)
    assert [keep.size(step) for step in range(6)] == [5, 5, 5, 5, 3, 5]
    assert {drop.size(step) for step in range(12)} == {5}
    assert [len(keep.rows(step).index) for step in range(6)] == [5, 5, 5, 5, 3, 5]
    assert drop.rows(4).epoch == 1 == keep.rows(5).epoch
    np.testing.assert_array_equal(drop.rows(4).index, keep.rows(5).index)


def test_a_step_needs_no_history():
    once = EpochOrder(101, 7, seed=5)
    for step in range(40):
        once.rows(step)
    np.testing.assert_array_equal(once.rows(33).index, EpochOrder(101, 7, seed=5).rows(33).index)


def test_seeds_give_different_orders():
    assert not np.array_equal(EpochOrder(50, 50, seed=0).rows(0).index, EpochOrder(50, 50, seed=1).rows(0).index)


def test_no_full_batch_is_an_error():
    with pytest.raises(ValueError, match="global_batch_size is 8 but the training split has 7 examples"):
        EpochOrder(7, 8, seed=0)
    assert EpochOrder(7, 8, seed=0, last_batch="keep").size(0) == 7


def test_negative_seed_is_an_error():
    with pytest.raises(ValueError, match="must not be negative"):
        EpochOrder(7, 2, seed=-1)


@pytest.mark.parametrize("count", [1, 6, 7, 12, 13])
def test_evaluation_covers_every_example_once(count):
    order = EvalOrder(count, 6)
    rows = [order.rows(step) for step in range(order.steps_per_epoch)]
    index, weight = (np.concatenate([getattr(row, name) for row in rows]) for name in ("index", "weight"))
    np.testing.assert_array_equal(index[weight == 1], np.arange(count))
    assert len(index) % 6 == 0
    assert not index[weight == 0].any()


def test_empty_evaluation_is_an_error():
    with pytest.raises(ValueError, match="no examples"):
        EvalOrder(0, 4)


def test_example_streams_differ_between_examples_and_epochs_and_from_the_permutation():
    draws = {tuple(example_rng(1, epoch, index).integers(2**60, size=2)) for epoch in range(3) for index in range(3)}
    draws.add(tuple(np.random.default_rng((1, 0)).integers(2**60, size=2)))
    assert len(draws) == 10


def test_one_permutation_is_kept_at_a_time_in_four_bytes():
    order = EpochOrder(1000, 10, seed=4)
    held = [order.rows(step).index for step in (0, 99, 100, 250)]
    assert {index.dtype for index in held} == {np.dtype(np.int32)}
    assert order_module._permutation.cache_info().currsize == 1
    np.testing.assert_array_equal(held[2], np.random.default_rng((4, 1)).permutation(1000)[:10])


@pytest.mark.parametrize(("batch_size", "repeats"), [(6, 3), (8, 3), (5, 5), (7, 2)])
def test_repeated_examples_are_in_one_batch(batch_size, repeats):
    order = EpochOrder(40, batch_size, seed=1, repeats=repeats)
    assert order.steps_per_epoch == 40 // batch_size
    seen = []
    for step in range(order.steps_per_epoch):
        rows = order.rows(step)
        assert len(rows.index) == len(rows.copy) == batch_size
        counts = np.unique(rows.index, return_counts=True)[1]
        assert len(counts) == -(-batch_size // repeats)
        assert counts.max() == repeats
        # Pairs of an example and a copy are distinct, and neighbours are different examples where there are several.
        assert len({*zip(rows.index.tolist(), rows.copy.tolist(), strict=True)}) == batch_size
        assert len(counts) == 1 or (rows.index[1:] != rows.index[:-1]).all()
        seen += rows.index.tolist()
    assert len(set(seen)) == order.steps_per_epoch * -(-batch_size // repeats)
    assert sorted(set(seen)) != sorted({i for s in range(order.steps_per_epoch) for i in order.rows(s + 99).index})


def test_without_repeats_the_order_is_as_it_was():
    plain, once = EpochOrder(23, 4, seed=1), EpochOrder(23, 4, seed=1, repeats=1)
    for step in range(12):
        np.testing.assert_array_equal(plain.rows(step).index, once.rows(step).index)
        assert not once.rows(step).copy.any()


def test_the_smaller_last_batch_is_repeated_too():
    rows = EpochOrder(11, 4, seed=0, last_batch="keep", repeats=2).rows(2)
    assert len(rows.index) == 3
    assert len(np.unique(rows.index)) == 2


def test_more_repeats_than_rows_are_named():
    with pytest.raises(ValueError, match="config.augment.repeats is 5, more than config.global_batch_size=4"):
        EpochOrder(11, 4, seed=0, repeats=5)
