"""Dynamic batching: who goes with whom, who is refused, and who is told what."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mhe_jax.serving.batcher import Batcher, FullError


class Doubler:
    """Doubles inputs, when it is let; remembers the batches."""

    def __init__(self):
        self.batches, self.may = [], threading.Event()
        self.may.set()

    def __call__(self, inputs):
        self.may.wait()
        self.batches.append(inputs)
        if any(one < 0 for one in inputs):
            raise ArithmeticError("negative")
        return [2 * one for one in inputs]


def run(scenario, max_batch=4, max_wait=0.0, max_queue=10):
    """Runs scenario(batcher, compute)."""
    compute = Doubler()

    async def whole(pool):
        batcher = Batcher(compute, pool, max_batch, max_wait, max_queue)
        try:
            return await asyncio.wait_for(scenario(batcher, compute), 20)
        finally:
            compute.may.set()
            await batcher.close()

    with ThreadPoolExecutor(1) as pool:
        return asyncio.run(whole(pool)), compute.batches


async def all_of(batcher, *requests):
    return await asyncio.gather(*map(batcher.ask, requests))


def test_each_request_has_its_own_answers_in_order():
    found, batches = run(lambda batcher, _: all_of(batcher, [1, 2, 3], [], [4], [5, 6]), max_wait=0.05)
    assert found == [[2, 4, 6], [], [8], [10, 12]]
    assert batches == [[1, 2, 3, 4], [5, 6]]


def test_what_comes_while_a_batch_is_computed_goes_together():
    async def scenario(batcher, compute):
        compute.may.clear()
        first = asyncio.create_task(batcher.ask([1]))
        await asyncio.sleep(0.01)
        later = [asyncio.create_task(batcher.ask([one])) for one in (2, 3, 4)]
        await asyncio.sleep(0.01)
        assert batcher.pending == 4
        compute.may.set()
        return await asyncio.gather(first, *later)

    found, batches = run(scenario)
    assert found == [[2], [4], [6], [8]]
    assert batches == [[1], [2, 3, 4]]


def test_a_request_above_the_queue_is_refused_whole_and_the_others_are_answered():
    async def scenario(batcher, compute):
        taken = asyncio.create_task(batcher.ask(range(8)))
        await asyncio.sleep(0)
        with pytest.raises(FullError, match="8 inputs wait already"):
            await batcher.ask([1, 2, 3])
        return await asyncio.gather(taken, batcher.ask([20, 21]))

    found, batches = run(scenario)
    assert found == [[2 * one for one in range(8)], [40, 42]]
    assert sum(map(len, batches)) == 10


def test_an_error_is_told_to_its_batch_alone():
    async def scenario(batcher, compute):
        return await asyncio.gather(batcher.ask([-1]), batcher.ask([1, 2, 3, 4]), return_exceptions=True)

    (failed, also), _ = run(scenario)
    assert isinstance(failed, ArithmeticError)
    # Three of its inputs went with the bad one.
    assert isinstance(also, ArithmeticError)

    async def after(batcher, compute):
        await asyncio.gather(batcher.ask([-1]), return_exceptions=True)
        return await batcher.ask([5])

    assert run(after)[0] == [10]


def test_who_hangs_up_takes_the_inputs_along():
    async def scenario(batcher, compute):
        compute.may.clear()
        first = asyncio.create_task(batcher.ask([1]))
        await asyncio.sleep(0.01)
        gone = asyncio.create_task(batcher.ask([2, 3]))
        await asyncio.sleep(0.01)
        gone.cancel()
        stays = asyncio.create_task(batcher.ask([4]))
        await asyncio.sleep(0.01)
        compute.may.set()
        return await asyncio.gather(first, stays)

    found, batches = run(scenario)
    assert found == [[2], [8]]
    assert batches == [[1], [4]]
