"""Several processes as one run: how they find each other, wait for each other, agree, and end when one is gone.

JAX's coordination service does the work: it runs in process 0, knows by heartbeats who is alive, and ends every process
of a run that has lost one. Here its waits get a name and a bound, and its errors the numbers of the processes.
"""

import collections
import os
import sys
import threading
import time
import types
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.distributed import global_state  # has the process numbers without touching a device, and named barriers
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from mhe_jax.data.feed import Feed
from mhe_jax.train.parallel.ending import end_at_once
from mhe_jax.train.parallel.mesh import BATCH, whole

# How long a process that failed waits for the others to fail in the same way, as they do over a mistake in a config;
# and for threads of its own.
_LEAVING_SECONDS = 5.0

# What tells that a scheduler is there, and what JAX wants of it besides, which the scheduler's own starter sets.
_JOBS = {
    "SLURM_JOB_ID": ("srun", ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")),
    "OMPI_MCA_orte_hnp_uri": (
        "mpirun",
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ),
}

_uses: collections.Counter = collections.Counter()


class MissingProcessError(TimeoutError):
    """Other processes of the run did not come, or are gone."""


def initialize(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    detect: bool,
    *,
    heartbeat_seconds: int,
    peer_seconds: int,
) -> None:
    """Joins the run's processes, before any device is touched; does nothing where there is one process.

    Args:
      coordinator: HOST:PORT of process 0, on which it listens; with `num_processes` and `process_id`, or all None.
      num_processes: how many there are.
      process_id: which of them this is, from 0.
      detect: find the three out from Slurm, Open MPI, Kubernetes or a TPU's environment. JAX then gives a process of
        Slurm and Open MPI the one GPU of its local rank; the variable JAX_LOCAL_DEVICE_IDS (0,1,...) gives it others.
      heartbeat_seconds: a process that is silent for so long is taken for dead, and ends the others.
      peer_seconds: how long to wait for the others; the process ends with a message when they do not come.

    Raises:
      ValueError: if the arguments are incomplete or contradict each other, or nothing is detected.
    """
    explicit = (coordinator, num_processes, process_id)
    if explicit == (None, None, None) and not detect:
        return
    if detect:
        if explicit != (None, None, None):
            raise ValueError("--distributed=auto finds --coordinator, --num_processes and --process_id by itself")
    elif coordinator is None or num_processes is None or process_id is None:
        names = ("--coordinator", "--num_processes", "--process_id")
        missing = [name for name, value in zip(names, explicit, strict=True) if value is None]
        raise ValueError(f"{', '.join(missing)} is missing: the three go together")
    elif ":" not in coordinator or not 0 <= process_id < num_processes:
        raise ValueError(
            f"--coordinator={coordinator} --num_processes={num_processes} --process_id={process_id}: HOST:PORT and "
            "0 <= process_id < num_processes are needed"
        )
    # JAX aborts when its own time is up, with no word that a person understands: this is earlier.
    which = "this process" if process_id is None else f"process {process_id} of {num_processes}"
    where = coordinator or "the coordinator"
    timer = threading.Timer(peer_seconds, _alone, [f"{which} did not find all others at {where} in {peer_seconds} s"])
    timer.daemon = True
    timer.start()
    # Its handler would replace `interruption`'s, and SIGTERM be ignored wherever nobody asks for it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            *explicit,
            # Explicit flags are all there is: a launcher inside a Slurm job is not Slurm.
            cluster_detection_method=None if detect else "deactivate",
            initialization_timeout=peer_seconds + 60,
            heartbeat_timeout_seconds=heartbeat_seconds,
            shutdown_timeout_seconds=heartbeat_seconds,
        )
    except (ValueError, KeyError) as error:
        if not detect:
            raise
        # A KeyError names a variable that JAX takes for granted where it has found others.
        reason = _missing_of_a_job() or (f"{error.args[0]} is not set" if isinstance(error, KeyError) else str(error))
        raise ValueError(
            f"--distributed=auto: this is no Slurm, Open MPI, Kubernetes or TPU job ({reason}); give --coordinator, "
            "--num_processes and --process_id"
        ) from None
    finally:
        timer.cancel()
    sys.excepthook = _leave_after_error


def _missing_of_a_job() -> str:
    """What a process lacks that has a part of Slurm's or Open MPI's environment; empty if it has none of it or all."""
    for marker, (start, needed) in _JOBS.items():
        missing = [name for name in needed if not os.environ.get(name)]
        if marker in os.environ and missing:
            return f"{marker} is set, but {', '.join(missing)} is not: start each process with {start}"
    return ""


def is_main() -> bool:
    """Whether this process writes the files of the run; touches no device."""
    return global_state.process_id == 0


def barrier(name: str, seconds: float) -> None:
    """Returns when every process of the run is here.

    Raises:
      MissingProcessError: after `seconds`, or when one is dead, naming the processes that are not.
    """
    client, count = global_state.client, global_state.num_processes
    if client is None:
        return
    _uses[name] += 1
    key, started = f"mhe_jax/{name}/{_uses[name]}", time.monotonic()
    try:
        client.key_value_set(f"{key}/{global_state.process_id}", "here")
        client.wait_at_barrier(key, round(seconds * 1000))
    except jax.errors.JaxRuntimeError as error:
        # Less than `seconds` where one of them is known to be dead.
        waited = time.monotonic() - started
        raise MissingProcessError(f"{_absent(client, key, count)} not come to {name!r} in {waited:.0f} s") from error


def agree_on_text(name: str, text: str) -> str:
    """The text of process 0, in every process."""
    client = global_state.client
    if client is None:
        return text
    key = f"mhe_jax/{name}"
    if is_main():
        client.key_value_set(key, text)
    # All have just found each other, so that this takes no time.
    return client.blocking_key_value_get(key, 60_000)


def gather_texts(name: str, text: str, seconds: float) -> list[str]:
    """The text of each process, by their numbers, when every one has come with its own. Raises like `barrier`."""
    client = global_state.client
    if client is None:
        return [text]
    # Before the waiting, so that each key is there when all have come; a name may be used again.
    key = f"mhe_jax/{name}/text/{_uses[name]}"
    client.key_value_set(f"{key}/{global_state.process_id}", text)
    barrier(name, seconds)
    return [client.blocking_key_value_get(f"{key}/{i}", 60_000) for i in range(global_state.num_processes)]


def of_main(numbers: Sequence[int]) -> list[int]:
    """The numbers of process 0, in every process; every process has to call this, with as many numbers as it likes."""
    if jax.process_count() == 1:
        return list(numbers)
    count = int(multihost_utils.broadcast_one_to_all(np.int32(len(numbers))))
    filled = np.zeros(count, np.int64)
    if is_main():
        filled[:] = numbers
    return multihost_utils.broadcast_one_to_all(filled).tolist()


def union(numbers: set[int]) -> set[int]:
    """The numbers that any process has; every process has to call this."""
    if jax.process_count() == 1:
        return numbers
    most = int(multihost_utils.process_allgather(np.int64(len(numbers))).max())
    filled = np.full(most, -1, np.int64)
    filled[: len(numbers)] = sorted(numbers)
    return set(multihost_utils.process_allgather(filled).ravel().tolist()) - {-1}


def bad_examples(feed: Feed) -> int:
    """How many unreadable examples all processes met, each counted once; every process has to call this."""
    return feed.left_out + len(union(feed.bad))


class Agreement:
    """What any process asks for is asked by all, at the same dispatch, so that all stop at one step.

    A flag of each device goes through one small reduction a dispatch, whose result is read a dispatch later, when the
    device is done with it: nobody waits. One process alone is answered at once.
    """

    def __init__(self, mesh: Mesh):
        self._several = jax.process_count() > 1
        self._flags = NamedSharding(mesh, BATCH)
        self._any = jax.jit(jnp.max, out_shardings=whole(mesh))
        self._pending: Any = None

    def __call__(self, asked: bool) -> bool:
        """Whether any process had asked by the call before; every process has to call this as often."""
        if not self._several:
            return asked
        mine = np.full(jax.local_device_count(), asked, np.int32)
        before, self._pending = self._pending, self._any(jax.make_array_from_process_local_data(self._flags, mine))
        return before is not None and bool(before)


def leave(code: int) -> int:
    """Ends a process that failed: returns `code` if nothing holds it up, and else ends at once.

    An ordinary exit would wait for processes that wait for this one, which are ended by its silence, and for threads of
    a save that failed, which wait five minutes for one another.
    """
    if global_state.client is not None:
        try:
            barrier("the end after an error", _LEAVING_SECONDS)
        except MissingProcessError as error:
            print(
                f"error: {error}: it is gone, or it waits for this process, and ends when it misses its heartbeats",
                file=sys.stderr,
            )
            _end(code)
    until = time.monotonic() + _LEAVING_SECONDS
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            # Not Orbax's own method, which raises.
            threading.Thread.join(thread, max(0.0, until - time.monotonic()))
            if thread.is_alive():
                _end(code)
    return code


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    end_at_once(code)


def _alone(message: str) -> None:
    end_at_once(1, f"error: {message}: was each of them started, and can it reach that address?")


def _leave_after_error(kind: type, error: BaseException, traceback: types.TracebackType | None) -> None:
    sys.__excepthook__(kind, error, traceback)
    sys.stderr.flush()
    leave(1)


def _absent(client: Any, key: str, count: int) -> str:
    try:
        came = {int(name.rsplit("/", 1)[1]) for name, _ in client.key_value_dir_get(f"{key}/")}
    except jax.errors.JaxRuntimeError:
        return "process 0, which coordinates the run, has"
    absent = sorted(set(range(count)) - came)
    if len(absent) == 1:
        return f"process {absent[0]} of {count} has"
    return f"processes {', '.join(map(str, absent))} of {count} have"
