"""Worker processes by themselves. This file is imported by them, and imports no JAX, so that they can tell."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from mhe_jax.data.dataset import BadExample, StreamSplit
from mhe_jax.data.images.workers import Loader, Slots, Task, Workers, cores


@dataclasses.dataclass(frozen=True)
class Numbered:
    """Images of three bytes: the index, whether JAX is imported, and whether this is the process that asks."""

    asking: int
    pause: float = 0.0
    long: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(1000))

    def __call__(self, index, rng):
        time.sleep(self.pause)
        if index == 99:
            raise BadExample("file 99 is broken")
        if index == 98:
            raise KeyError("a mistake of the program")
        image = np.array([self.long[index], "jax" in sys.modules, os.getpid() == self.asking], np.uint8)
        return image.reshape(1, 1, 3), 0 if rng is None else int(rng.integers(1 << 30))


@contextlib.contextmanager
def working(count=2, *, processes=True, seed=None, pause=0.0, slots=2, **fields):
    made = Slots.make(slots, 4, (1, 1, 3))
    split = StreamSplit(1000, Numbered(os.getpid(), pause), **fields)
    workers = Workers(Loader(split, made, seed), count, processes=processes)
    try:
        yield made, workers
    finally:
        workers.close()


@pytest.mark.parametrize("processes", [True, False])
def test_tasks_fill_their_rows(processes):
    with working(processes=processes, seed=3) as (slots, workers):
        images, labels, indices = slots.batch(1)
        indices[:] = 7, 8, 9, 10
        for begin in (0, 2):
            workers.submit(Task(1, begin, begin + 2, epoch=5))
        assert {workers.next().task.begin for _ in range(2)} == {0, 2}
        assert images[:, 0, 0, 0].tolist() == [7, 8, 9, 10]
        assert images[:, 0, 0, 2].tolist() == [not processes] * 4
        if processes:
            assert not images[:, 0, 0, 1].any()  # JAX is imported
        draws = [np.random.default_rng((3, 5, index, 1)).integers(1 << 30) for index in (7, 8, 9, 10)]
        assert labels.tolist() == draws
        assert not slots.batch(0)[0].any()


def test_more_tasks_than_sockets_hold_are_all_done():
    with working(seed=None) as (_, workers):
        for _ in range(3000):
            workers.submit(Task(0, 0, 4, 0))
        assert all(workers.next().error is None for _ in range(3000))


@pytest.mark.parametrize("processes", [True, False])
def test_what_goes_wrong_is_told(processes):
    with working(1, processes=processes, on_bad_example="skip") as (slots, workers):
        slots.batch(0)[2][:] = 5, 99, 98, 1
        workers.submit(Task(0, 0, 2, 0))
        assert workers.next().bad == [(1, "file 99 is broken")]
        workers.submit(Task(0, 2, 4, 0))
        error = workers.next().error
        assert isinstance(error, KeyError)
        assert "in __call__" in error.__notes__[0]
    with working(1, processes=processes) as (slots, workers):
        slots.batch(0)[2][:] = 99
        workers.submit(Task(0, 0, 1, 0))
        assert isinstance(workers.next().error, BadExample)


def test_without_randomness_there_is_no_generator():
    with working(1, processes=False, seed=3, random=False) as (slots, workers):
        workers.submit(Task(0, 0, 4, 0))
        workers.next()
        assert slots.batch(0)[1].tolist() == [0] * 4


def test_signals_are_left_to_the_parent_and_a_death_is_told():
    with working(2, pause=0.2) as (_, workers):
        for _ in range(8):
            workers.submit(Task(0, 0, 4, 0))
        workers.next()
        for process in workers._processes:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                os.kill(process.pid, number)
        workers.next()
        assert all(process.is_alive() for process in workers._processes)
        os.kill(workers._processes[0].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"^a process that loads examples ended with status -9: was the memory"):
            [workers.next() for _ in range(8)]


PARENT = """
import os, sys, time
from tests.data.images.test_workers import Task, working
if __name__ == "__main__":
    with working(2) as (_, workers):
        for _ in range(4):
            workers.submit(Task(0, 0, 4, 0))
        for _ in range(4):
            workers.next()
        print(*(process.pid for process in workers._processes), flush=True)
        time.sleep(0 if sys.argv[1] == "exit" else 600)
        sys.exit(workers.submit(Task(0, 0, 4, 0)))
"""


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_workers_leave_with_their_parent_however_it_ends(tmp_path, end):
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py"), end]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    numbers = [int(word) for word in parent.stdout.readline().split()]
    assert len(numbers) == 2
    if end == "kill":
        parent.kill()
    parent.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{number}") and not _is_zombie(number) for number in numbers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_zombie(number):
    with contextlib.suppress(OSError), open(f"/proc/{number}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"
    return True


def test_closing_ends_threads_too():
    before = threading.active_count()
    with working(3, processes=False):
        assert threading.active_count() == before + 3
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("bound", "there", "processes", "own"), [(8, 64, 8, 8), (64, 64, 8, 8), (2, 64, 1, 2), (4, 4, 8, 1)]
)
def test_a_process_has_the_cores_that_it_is_bound_to_or_its_share(monkeypatch, bound, there, processes, own):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)))
    monkeypatch.setattr(os, "cpu_count", lambda: there)
    assert cores(processes) == own
