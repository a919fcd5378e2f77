"""Where compiled programs are kept for the next start. In processes of their own: JAX opens its cache only once."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from mhe_jax.train import compilation_cache

# A program that takes long enough to be kept, and what JAX did with it.
PROGRAM = """
import collections, json, os, sys
import jax, jax.numpy as jnp
from mhe_jax.train import compilation_cache
events = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **told: events.update([name.rpartition("/")[2]]))
compilation_cache.MIN_COMPILE_SECONDS = 0.0
said = compilation_cache.enable()
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8)))
print(json.dumps({"said": said, "folder": jax.config.jax_compilation_cache_dir,
                  "size": jax.config.jax_compilation_cache_max_size, **events}))
"""


def start(home: pathlib.Path, **environment: str) -> dict:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XDG_"))}
    environment = {**plain, "JAX_PLATFORMS": "cpu", "HOME": str(home), **environment}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout), "stderr": done.stderr}


def test_the_second_start_finds_what_the_first_compiled(tmp_path):
    """Three processes that import JAX."""
    first, second = start(tmp_path), start(tmp_path)
    folder = pathlib.Path(first["folder"])
    assert folder.parent == tmp_path / ".cache" / "mhe_jax" / "compiled"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert first["size"] == compilation_cache.MAX_BYTES
    assert (first["said"], second["said"]) == ("", "")
    assert first["cache_misses"] > 0
    assert "cache_hits" not in first
    assert second["cache_hits"] == first["cache_misses"]
    assert "cache_misses" not in second
    elsewhere = start(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))
    assert (elsewhere["folder"], elsewhere["size"]) == (str(tmp_path / "own"), -1)


def test_it_can_be_switched_off(tmp_path):
    off = start(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")
    assert off["folder"] is None
    assert not (tmp_path / ".cache").exists()


def test_a_folder_that_cannot_be_made_is_told_and_ends_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    found = start(tmp_path, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert found["folder"] is None
    assert found["said"].startswith("compiled programs are not kept for the next start: ")
    assert str(tmp_path / "file") in found["said"]


def test_each_kind_of_cpu_has_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = compilation_cache.default_folder()
    assert here == compilation_cache.default_folder()
    assert here.parent == tmp_path / "mhe_jax" / "compiled"
    text = pathlib.Path("/proc/cpuinfo").read_text()
    monkeypatch.setattr(pathlib.Path, "read_text", lambda self: text.replace("flags\t\t: ", "flags\t\t: amx_tile "))
    if "flags\t\t: " not in text:
        pytest.skip("a CPU that tells its instructions by another name")
    assert compilation_cache.default_folder() != here
