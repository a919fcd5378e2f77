"""Processes, or threads, that load the examples of batches into memory they share with the process that asks.

A worker takes a piece of a batch from a socket that all of them read, so that none waits while there is work, and says
on another that it is done. The kernel gives each message to one reader: no lock is left held by a worker that dies, and
when the process that asks is gone, however it ended, the workers read the end of the socket and leave.

Grain's processes, which these replace, import JAX each, hold the data set's arrays and a permutation each, and hand
copies of whole batches over in /dev/shm, two or more a process.
"""

import collections
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import pickle
import signal
import socket
import threading
import traceback
from typing import Any, NamedTuple

import numpy as np

from mhe_jax.data.dataset import BadExample, StreamSplit
from mhe_jax.data.images import decode
from mhe_jax.data.order import example_rng
from mhe_jax.data.shared_memory import SharedMemory, SharedObject

_LONGEST = 1 << 16  # bytes of a message
_END_SECONDS = 25.0  # for a worker to finish its piece


class Task(NamedTuple):
    """Rows `begin` .. `end - 1` of the batch in a slot, in an epoch."""

    slot: int
    begin: int
    end: int
    epoch: int


class Done(NamedTuple):
    """What became of a task: (row, message) of each unreadable example, or what else was raised."""

    task: Task
    bad: list[tuple[int, str]]
    error: Exception | None = None


@dataclasses.dataclass(frozen=True)
class Slots:
    """`count` batches in shared memory, each of uint8 images [rows, *shape], int32 labels and int64 indices [rows].

    An index is that of an example, and so many times the number of examples more in its further copies in a batch.
    """

    rows: int
    shape: tuple[int, ...]
    images: SharedMemory
    labels: SharedMemory
    indices: SharedMemory

    @staticmethod
    def make(count: int, rows: int, shape: tuple[int, ...]) -> "Slots":
        total = count * rows
        sizes = (total * int(np.prod(shape)), 4 * total, 8 * total)
        return Slots(rows, shape, *map(SharedMemory, sizes))

    def batch(self, slot: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(images, labels, indices) of a slot, as views."""
        first = slot * self.rows
        return (
            self.images.array(first * int(np.prod(self.shape)), (self.rows, *self.shape), np.uint8),
            self.labels.array(4 * first, (self.rows,), np.int32),
            self.indices.array(8 * first, (self.rows,), np.int64),
        )


@dataclasses.dataclass(frozen=True)
class Loader:
    """Does tasks; `seed` None is evaluation."""

    split: StreamSplit
    slots: Slots
    seed: int | None

    def __call__(self, task: Task) -> list[tuple[int, str]]:
        """Fills the task's rows but those of unreadable examples, which are returned, or raised as the split says."""
        images, labels, indices = self.slots.batch(task.slot)
        seed = self.seed if self.split.random else None
        bad = []
        for row, index in enumerate(indices[task.begin : task.end].tolist(), task.begin):
            rng = None if seed is None else example_rng(seed, task.epoch, index)
            try:
                images[row], labels[row] = self.split.load_example(index % self.split.num_examples, rng)
            except BadExample as error:
                if self.split.on_bad_example == "raise":
                    raise
                bad.append((row, str(error)))
        return bad


class Workers:
    """`count` processes, or threads of this one, that do tasks in the order of `submit`, some at a time."""

    def __init__(self, loader: Loader, count: int, *, processes: bool):
        self._tasks, their_tasks = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._results, their_results = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._backlog: collections.deque[Task] = collections.deque()
        self._processes: list[Any] = []
        started: list[Any] = []
        # At the interpreter's end too: before multiprocessing asks its processes to leave, and waits for them.
        arguments = ((self._tasks, self._results), (their_tasks, their_results), started)
        self.close = multiprocessing.util.Finalize(self, _close, arguments, exitpriority=10)
        if not processes:
            for _ in range(count):
                started.append(threading.Thread(target=_serve, args=(loader, their_tasks, their_results), daemon=True))
                started[-1].start()
            return
        shared, context = SharedObject(loader.split), multiprocessing.get_context("spawn")
        given = (shared, loader.slots, loader.seed, their_tasks, their_results)
        for number in range(count):
            name = f"loads examples {number}"
            started.append(context.Process(target=_run_process, args=given, name=name, daemon=True))
            started[-1].start()
        self._processes = started
        shared.forget()
        their_tasks.close()
        their_results.close()

    def submit(self, task: Task) -> None:
        self._backlog.append(task)
        self._send()

    def next(self) -> Done:
        """The next task that is done; waits for it.

        Raises:
          RuntimeError: if a worker has died.
        """
        self._send()
        with contextlib.suppress(BlockingIOError):
            return pickle.loads(self._results.recv(_LONGEST, socket.MSG_DONTWAIT))
        ready = multiprocessing.connection.wait([self._results, *(process.sentinel for process in self._processes)])
        if self._results not in ready:
            for process in self._processes:
                if process.sentinel in ready:
                    process.join()  # its end is seen before its status
            codes = {process.exitcode for process in self._processes} - {None}
            killed = ": was the memory used up?" if -signal.SIGKILL in codes else ""
            raise RuntimeError(f"a process that loads examples ended with status {codes.pop()}{killed}")
        return pickle.loads(self._results.recv(_LONGEST))

    def _send(self) -> None:
        """As many tasks as the socket takes, so that this process never waits for workers that wait for it."""
        with contextlib.suppress(BlockingIOError):
            while self._backlog:
                self._tasks.send(pickle.dumps(self._backlog[0]), socket.MSG_DONTWAIT)
                self._backlog.popleft()


def _close(own: tuple[socket.socket, ...], theirs: tuple[socket.socket, ...], started: list[Any]) -> None:
    """Ends the workers: they read the end of the tasks after those that they have."""
    for end in own:
        end.close()
    for worker in started:
        worker.join(_END_SECONDS)
        if isinstance(worker, threading.Thread):
            continue
        if worker.exitcode is None:
            worker.kill()
            worker.join()
    for end in theirs:
        end.close()


def _run_process(shared: SharedObject, slots: Slots, seed: int | None, tasks: socket.socket, results: socket.socket):
    """A worker process, which leaves it to its parent what signals mean: many are sent to all processes of a job."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if decode.cv2 is not None:
        decode.cv2.setNumThreads(1)  # there is a process for each core
    _serve(Loader(shared.value, slots, seed), tasks, results)


def _serve(loader: Loader, tasks: socket.socket, results: socket.socket) -> None:
    """Does tasks until there is nobody left who would ask."""
    with contextlib.suppress(OSError):
        while message := tasks.recv(_LONGEST):
            task = pickle.loads(message)
            try:
                done = Done(task, loader(task))
            except Exception as error:  # whatever it is, the process that asked has to hear of it
                done = Done(task, [], _portable(error))
            results.send(pickle.dumps(done))


def _portable(error: Exception) -> Exception:
    """The error as another process can have it, with the place where it was raised if that is not expected to be."""
    if not isinstance(error, BadExample):
        error.add_note("".join(traceback.format_exception(error))[-_LONGEST // 4 :])
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # what cannot be pickled, or made again from its arguments, fails in any way
        return RuntimeError("".join(traceback.format_exception(error))[-_LONGEST // 4 :])
    return error


def cores(processes_here: int) -> int:
    """How many cores this process has: those it is bound to, or its share of the machine's."""
    return min(len(os.sched_getaffinity(0)), max(1, (os.cpu_count() or 1) // processes_here))
