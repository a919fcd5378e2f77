"""Compiled programs kept between starts, so that a job that is queued again does not compile again.

JAX keeps them where JAX_COMPILATION_CACHE_DIR says, and nowhere without it; here is where the command line puts them
then. What a CPU runs was made for its instructions, which JAX's keys do not name: each kind of CPU has its own folder.
"""

import os
import pathlib
import platform
import zlib
from typing import Any

import jax

# Of one kind of CPU; the programs that were not used for longest go first.
MAX_BYTES = 4 * 2**30
# JAX itself leaves out what compiled in less than a second: much of what a start compiles.
MIN_COMPILE_SECONDS = 0.2


def enable() -> str:
    """Has JAX keep compiled programs for the next start, before the first of them is compiled.

    Nothing changes where JAX was told already: where to keep them, by JAX_COMPILATION_CACHE_DIR, or not to, by
    JAX_ENABLE_COMPILATION_CACHE=false.

    Returns:
      why they are not kept, for people, if their folder cannot be used; else nothing.
    """
    told: Any = jax.config
    if told.jax_compilation_cache_dir is not None or not told.jax_enable_compilation_cache:
        return ""
    try:
        folder = default_folder()
        # JAX runs what it finds there: it is the user's alone.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} is not writable")
    except (OSError, RuntimeError) as error:  # the latter where a user has no home
        return f"compiled programs are not kept for the next start: {error} (JAX_COMPILATION_CACHE_DIR)"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ:
        jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    return ""


def default_folder() -> pathlib.Path:
    """The folder of this kind of CPU in mhe_jax/compiled, under $XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root, "mhe_jax", "compiled", f"{platform.machine()}-{_cpu():08x}")


def _cpu() -> int:
    """A digest of the CPU's model and instructions, as Linux tells them."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return 0
    first: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        first.setdefault(name.strip(), value.strip())
    # x86 and Arm.
    names = ("vendor_id", "model name", "flags", "CPU implementer", "CPU part", "Features")
    return zlib.crc32(repr([first.get(name) for name in names]).encode())
