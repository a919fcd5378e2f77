import contextlib
import dataclasses
import os

import jax
import numpy as np
import pytest

from mhe_jax.data.dataset import ArraySplit, BadExample, StreamSplit
from mhe_jax.data.feeds import eval_feed, train_feed


@dataclasses.dataclass(frozen=True)
class Numbered:
    """Images that hold their index, and a random number where there is a generator."""

    bad: tuple[int, ...] = ()

    def __call__(self, index, rng):
        if index in self.bad:
            raise BadExample(f"file {index} is broken")
        noise = 0 if rng is None else rng.integers(256)
        return np.array([index, noise], np.uint8).reshape(1, 2, 1), index % 7


def array_split(count=23):
    return ArraySplit(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), np.arange(count, dtype=np.int32) % 7)


def stream_split(count=23, **fields):
    return StreamSplit(count, Numbered(fields.pop("bad", ())), **fields)


def run(feed, step, count):
    """The batches of `count` steps as the loop makes them, in one chunk."""
    chunk = feed.chunk(step, count)
    pieces = [{name: value[place] for name, value in chunk.items()} for place in range(count)]
    return [jax.tree.map(np.asarray, jax.jit(feed.batch)(feed.resident, piece)) for piece in pieces]


@pytest.fixture(params=["array", "stream"])
def split(request):
    return array_split() if request.param == "array" else stream_split()


def numbers(batch):
    return batch["image"][:, 0, 0, 0]


def test_training_batches_follow_the_order(split):
    feed = train_feed(split, 4, seed=2)
    assert (feed.num_examples, feed.steps_per_epoch, feed.batch_size) == (23, 5, 4)
    batches = run(feed, 0, 5)
    expected = np.random.default_rng((2, 0)).permutation(23)[:20]
    np.testing.assert_array_equal(np.concatenate([numbers(batch) for batch in batches]), expected)
    np.testing.assert_array_equal(np.concatenate([batch["label"] for batch in batches]), expected % 7)
    assert all(batch["weight"].tolist() == [1.0] * 4 for batch in batches)
    assert batches[0]["image"].dtype == np.uint8
    assert batches[0]["label"].dtype == np.int32


def test_a_resumed_feed_goes_on_where_the_first_one_was(split):
    first = train_feed(split, 4, seed=2)
    whole = run(first, 0, 9)
    late = run(train_feed(split, 4, seed=2), 6, 3)
    jax.tree.map(np.testing.assert_array_equal, whole[6:], late)
    jax.tree.map(np.testing.assert_array_equal, run(first, 2, 1), whole[2:3])  # and backwards
    first.close()


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_make_the_single_process_batch(split, processes):
    whole = run(train_feed(split, 8, seed=1), 1, 3)
    parts = [
        run(train_feed(split, 8, seed=1, process_index=i, process_count=processes), 1, 3) for i in range(processes)
    ]
    for step, batch in enumerate(whole):
        joined = jax.tree.map(lambda *rows: np.concatenate(rows), *(part[step] for part in parts))
        jax.tree.map(np.testing.assert_array_equal, joined, batch)


@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_sees_every_example_once_and_masks_the_rest(split, processes):
    feeds = [eval_feed(split, 8, process_index=i, process_count=processes) for i in range(processes)]
    seen = [numbers(batch)[batch["weight"] == 1] for feed in feeds for batch in run(feed, 0, feed.steps_per_epoch)]
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(23))
    again = [numbers(batch)[batch["weight"] == 1] for feed in feeds for batch in run(feed, 0, feed.steps_per_epoch)]
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(seen))


def test_keep_ends_each_epoch_with_a_short_batch(split):
    feed = train_feed(split, 8, seed=0, last_batch="keep")
    assert [feed.equal_steps(step) for step in range(4)] == [2, 1, 1, 2]
    assert len(numbers(run(feed, 2, 1)[0])) == 7
    seen = np.concatenate([numbers(run(feed, step, 1)[0]) for step in range(3, 6)])
    np.testing.assert_array_equal(np.sort(seen), np.arange(23))
    with pytest.raises(ValueError, match="a chunk of its own"):
        feed.chunk(1, 2)


def test_batches_that_do_not_divide_are_errors():
    with pytest.raises(ValueError, match="global_batch_size is 6; it must be a multiple of 4"):
        train_feed(array_split(), 6, seed=0, num_devices=4)
    with pytest.raises(ValueError, match="a batch of 7, which does not divide over 2"):
        train_feed(array_split(), 8, seed=0, last_batch="keep", num_devices=2)


def test_stream_randomness_depends_on_epoch_and_example_only():
    feed = train_feed(stream_split(), 4, seed=3, last_batch="keep")
    other = train_feed(stream_split(), 6, seed=3, last_batch="keep")
    first, second = (sorted(n for batch in run_all(f, 0) for n in draws(batch)) for f in (feed, other))
    assert first == second
    assert first != sorted(n for batch in run_all(feed, 1) for n in draws(batch))


def test_copies_of_an_example_in_a_batch_are_drawn_apart():
    """The first one is what it is without copies, whichever process has which rows."""
    feed = train_feed(stream_split(bad=(5,), on_bad_example="skip"), 8, seed=3, repeats=4)
    once = train_feed(stream_split(bad=(5,), on_bad_example="skip"), 2, seed=3)
    whole = run_all(feed, 0)
    for step, batch in enumerate(whole):
        good = [draw for draw, weight in zip(draws(batch), batch["weight"], strict=True) if weight]
        assert len(set(good)) == len(good) in (4, 8)
        assert len({index for index, _ in good}) == len(good) // 4
        first, alone = run(once, step, 1)[0], batch["weight"][:2]
        assert [d for d, w in zip(draws(first), first["weight"], strict=True) if w] == [
            d for d, w in zip(draws(batch)[:2], alone, strict=True) if w
        ]
    assert feed.bad_examples in (0, 1)
    two = [train_feed(stream_split(), 8, seed=3, repeats=4, process_index=i, process_count=2) for i in range(2)]
    both = [draw for feed in two for draw in draws(run(feed, 1, 1)[0])]
    assert both == draws(run(train_feed(stream_split(), 8, seed=3, repeats=4), 1, 1)[0])


def draws(batch):
    return list(map(tuple, batch["image"][:, 0, :, 0].tolist()))


def run_all(feed, epoch):
    steps = range(epoch * feed.steps_per_epoch, (epoch + 1) * feed.steps_per_epoch)
    return [run(feed, step, 1)[0] for step in steps]


def test_a_bad_example_stops_the_feed_with_its_name():
    with pytest.raises(BadExample, match="file 9 is broken"):
        eval_feed(stream_split(bad=(9,)), 8).chunk(0, 3)


def test_a_bad_example_can_be_skipped_and_is_counted():
    feed = eval_feed(stream_split(bad=(0, 9), on_bad_example="skip"), 8)
    batches = run(feed, 0, 3)
    seen = np.concatenate([numbers(batch)[batch["weight"] == 1] for batch in batches])
    np.testing.assert_array_equal(seen, [n for n in range(23) if n not in (0, 9)])
    assert numbers(batches[0])[0] == 1  # a good one stands in, at weight 0
    # The last batch is filled with good examples too, which is no further loss.
    assert feed.bad_examples == 2


def test_a_process_with_nothing_but_padding_has_weight_zero():
    feed = eval_feed(stream_split(count=9, bad=(0,), on_bad_example="skip"), 8, process_index=1, process_count=2)
    chunk = feed.chunk(1, 1)
    assert chunk["weight"].tolist() == [[0.0] * 4]
    assert chunk["image"].shape == (1, 4, 1, 2, 1)
    assert feed.bad_examples == 0


@pytest.mark.parametrize(("count", "bad"), [(23, tuple(range(8, 16))), (9, (8,))])
def test_a_batch_without_any_good_example_counts_for_nothing(count, bad):
    batches = run(eval_feed(stream_split(count, bad=bad, on_bad_example="skip"), 8), 0, -(-count // 8))
    seen = np.concatenate([numbers(batch)[batch["weight"] == 1] for batch in batches])
    np.testing.assert_array_equal(seen, [number for number in range(count) if number not in bad])
    assert numbers(batches[1]).tolist() == [0] * 8
    assert batches[1]["label"].tolist() == [0] * 8


def test_many_batches_without_any_good_example_are_an_error():
    feed = eval_feed(stream_split(250, bad=tuple(range(20, 250)), on_bad_example="skip"), 2)
    feed.chunk(0, 100)
    with pytest.raises(BadExample, match="no example of the last 100 steps can be read; the last one: file 219 is"):
        feed.chunk(100, 20)


def test_left_out_examples_of_an_array_are_counted():
    assert eval_feed(ArraySplit(*dataclasses.astuple(array_split())[:2], bad_examples=3), 8).bad_examples == 3


def test_lent_pictures_are_not_written_over():
    """Nor are copies made of those of a chunk of one step, as long as the caller lets them go."""
    with contextlib.closing(train_feed(stream_split(num_workers=1), 4, seed=2)) as feed:
        kept = [feed.chunk(step, 1)["image"] for step in range(25)]
        expected = [feed.chunk(step, 1)["image"].copy() for step in range(25)]
        np.testing.assert_array_equal(kept, expected)
        del kept
        places = {feed.chunk(step, 1)["image"].ctypes.data for step in range(25)}
        assert 1 <= len(places) <= feed._num_slots
    assert feed._num_slots == 6  # two pieces of the one worker are four batches, and two are lent


def test_workers_stay_from_one_evaluation_to_the_next():
    with contextlib.closing(eval_feed(stream_split(num_workers=1), 8)) as feed:
        run(feed, 0, 1)
        (process,) = feed._workers._processes
        run(feed, 1, 2)
        run(feed, 0, 3)
        assert feed._workers._processes == [process]
        assert process.is_alive()


def test_processes_of_a_machine_share_its_workers():
    for asked, here, own in ((16, 1, 16), (16, 8, 2), (3, 8, 1)):
        feed = train_feed(stream_split(num_workers=asked), 8, seed=0, processes_here=here)
        assert feed.num_workers == own
    assert 1 <= train_feed(stream_split(num_workers=0), 8, seed=0).num_workers <= 8
    assert train_feed(stream_split(num_workers=-1), 8, seed=0).num_workers == len(os.sched_getaffinity(0))
