import multiprocessing

import numpy as np
import pytest

from mhe_jax.data.shared_memory import SharedMemory, SharedObject


def fill(memory, shared, number):
    """In a process of its own: writes down what it was given."""
    array = memory.array(8, (3,), np.int64)
    names, arrays = shared.value
    array[:] = number, int(arrays["long"].sum()), len(names)
    assert not arrays["long"].flags.writeable


def test_processes_write_into_the_same_memory_and_read_one_copy_of_an_object():
    memory = SharedMemory(64)
    value = (["a", "b"], {"long": np.arange(10_000), "bytes": np.array([b"x", b"longer"]), "empty": np.empty(0)})
    shared = SharedObject(value)
    process = multiprocessing.get_context("spawn").Process(target=fill, args=(memory, shared, 7))
    process.start()
    process.join()
    assert process.exitcode == 0
    memory.forget()
    shared.forget()
    assert memory.array(0, (5,), np.int64).tolist() == [0, 7, 49_995_000, 2, 0]


def test_memory_lives_as_long_as_an_array_of_it():
    memory = SharedMemory(4096)
    part = memory.array(0, (4,), np.uint8)[1:3]
    memory.forget()
    del memory
    part[:] = 5
    assert part.tolist() == [5, 5]


def test_more_than_there_is_is_an_error_of_one_line():
    with pytest.raises(MemoryError, match=r"^there are no 1,099,511,627,776 MiB of memory to share with workers$"):
        SharedMemory(1 << 60)
