"""Results with the same bits at every repetition on a GPU: `config.deterministic`."""

import os

import jax
from jax._src import xla_bridge  # tells whether the devices are in use without using them

# It excludes operations that add up in any order, and the timing of algorithms by which two processes may choose
# different ones; --xla_gpu_exclude_nondeterministic_ops does only the first.
FLAG = "--xla_gpu_deterministic_ops"


def require() -> None:
    """Has XLA compile for the same bits; before the first use of a device, as XLA reads its flags only once.

    Raises:
      ValueError: if GPUs are in use already, and were not asked for this.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if f"{FLAG}=true" in flags:
        return
    if not xla_bridge.backends_are_initialized():
        os.environ["XLA_FLAGS"] = " ".join([*flags, f"{FLAG}=true"])
    elif jax.default_backend() == "gpu":
        raise ValueError(
            f"config.deterministic is set, but the GPUs are in use already: set XLA_FLAGS={FLAG}=true instead"
        )
