import os
import subprocess
import sys

import jax

from mhe_jax.train.parallel import deterministic

# XLA ends a process whose flags it does not know.
PROGRAM = """
from mhe_jax.train.parallel import deterministic
deterministic.require()
import jax, os
print(jax.numpy.zeros(3).at[jax.numpy.array([1, 1])].add(2.0), os.environ["XLA_FLAGS"])
deterministic.require()
"""


def test_the_flag_is_set_before_the_devices_are_used_and_is_one_that_xla_knows():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [
        "[0.",
        "4.",
        "0.]",
        "--xla_backend_optimization_level=0",
        f"{deterministic.FLAG}=true",
    ]


def test_on_a_cpu_in_use_nothing_is_needed():
    flags = os.environ.get("XLA_FLAGS")
    jax.devices()
    deterministic.require()
    assert os.environ.get("XLA_FLAGS") == flags
