"""Memory that a process shares with the processes that it starts.

It has no name in /dev/shm, and so takes nothing of the 64 MiB that a container has there if nothing is said, and is
gone with the last process that has it, however that ends.
"""

import contextlib
import errno
import mmap
import os
import pathlib
import pickle
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any

import numpy as np

_ALIGNMENT = mmap.PAGESIZE


class SharedMemory:
    """`size` bytes of zeros; picklable as an argument of a process that is being started, and only there.

    Raises:
      MemoryError: if there is not so much, instead of a bus error when it is used.
    """

    def __init__(self, size: int):
        self.size = max(size, 1)
        # The kernel would kill other processes for their memory before it says that there is none.
        if self.size > _available():
            raise _too_much(self.size)
        self._descriptor = os.memfd_create("mhe_jax")
        try:
            os.posix_fallocate(self._descriptor, 0, self.size)
        except OSError as error:
            os.close(self._descriptor)
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise
            raise _too_much(self.size) from error
        self.map = mmap.mmap(self._descriptor, self.size)

    def array(self, offset: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A view of a part; it, and what is made of it, keeps the memory."""
        count = int(np.prod(shape))
        return np.frombuffer(self.map, dtype, count, offset).reshape(shape)

    def forget(self) -> None:
        """No further process gets it; those that have it keep it."""
        os.close(self._descriptor)

    def __reduce__(self) -> tuple[Callable, tuple]:
        return _attach, (reduction.DupFd(self._descriptor), self.size)


def _available() -> int:
    """Bytes of memory that processes may still have: of the machine, and of the container that this one is in."""
    machine = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, StopIteration):
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        machine = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(OSError, ValueError):  # no limit is the word max
        group = pathlib.Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        machine = min(machine, limit - used)
    return machine


def _too_much(size: int) -> MemoryError:
    return MemoryError(f"there are no {size / 2**20:,.0f} MiB of memory to share with workers")


def _attach(passed: Any, size: int) -> SharedMemory:
    memory = SharedMemory.__new__(SharedMemory)
    memory.size = size
    memory._descriptor = passed.detach()
    memory.map = mmap.mmap(memory._descriptor, size)
    memory.forget()
    return memory


class SharedObject:
    """Any picklable object for processes that are started; of its arrays there is one copy for all of them together.

    In a process that has it, `value` is the object, whose arrays cannot be written to.
    """

    def __init__(self, value: Any):
        self.value = value
        buffers: list[pickle.PickleBuffer] = []
        self._pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        parts = [buffer.raw() for buffer in buffers]
        ends = np.cumsum([0, *(-(-part.nbytes // _ALIGNMENT) * _ALIGNMENT for part in parts)]).tolist()
        self._places = [(start, part.nbytes) for start, part in zip(ends, parts, strict=False)]
        self._memory = SharedMemory(ends[-1])
        for (start, size), part in zip(self._places, parts, strict=True):
            self._memory.map[start : start + size] = part

    def forget(self) -> None:
        """As `SharedMemory.forget`."""
        self._memory.forget()

    def __getstate__(self) -> tuple:
        return self._pickled, self._places, self._memory

    def __setstate__(self, state: tuple) -> None:
        self._pickled, self._places, self._memory = state
        whole = memoryview(self._memory.map).toreadonly()
        self.value = pickle.loads(self._pickled, buffers=[whole[start : start + size] for start, size in self._places])
