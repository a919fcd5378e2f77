"""Which processes of a run share a machine, and so its cores."""

import functools
import socket

from jax._src.distributed import global_state  # has the process numbers without touching a device

_SECONDS = 600  # all have joined the run, but some may still be importing


@functools.cache
def processes_here() -> int:
    """How many processes of the run have this machine's name; of containers and pods each has its own.

    Every process of the run has to call this.
    """
    client = global_state.client
    if client is None:
        return 1
    name = socket.gethostname()
    client.key_value_set(f"mhe_jax/machine/{global_state.process_id}", name)
    keys = (f"mhe_jax/machine/{i}" for i in range(global_state.num_processes))
    return sum(client.blocking_key_value_get(key, _SECONDS * 1000) == name for key in keys)
