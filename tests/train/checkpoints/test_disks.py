"""Checkpoints on a disk that is full or becomes read-only: a message, nothing lost, and an end of the program."""

import contextlib
import os
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.cli import program
from mhe_jax.train.checkpoints import lock
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from tests.train.checkpoints.small_checkpoints import made, meta, restored_step, save_all, save_and_wait


@contextlib.contextmanager
def full_disk(folder):
    """A file system of four MiB in memory; needs the right to mount."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


MAY_MOUNT = os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


@pytest.mark.skipif(not MAY_MOUNT, reason="needs the right to mount a small file system")
def test_a_full_disk_stops_with_a_message_and_leaves_the_last_checkpoint(tmp_path):
    noise = np.random.default_rng(0).normal(size=2**21).astype(np.float32)  # 8 MiB that do not compress
    with full_disk(tmp_path / "disk") as workdir:
        save_all(workdir, (1, 2), keep=2)
        large = made(3).replace(opt_state={"momentum": jnp.asarray(noise)})
        with contextlib.closing(Checkpoints(workdir, keep=2)) as checkpoints:
            checkpoints.save(large, 3, meta())
            message = r"cannot be written to .*No space left.* those of the steps 1, 2"
            with pytest.raises(OSError, match=message):
                checkpoints.wait()
        assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["1", "2"]
        assert restored_step(workdir) == 2
        save_all(workdir, (3,), keep=2)
        assert restored_step(workdir) == 3


@pytest.mark.skipif(not MAY_MOUNT, reason="needs the right to mount a folder read-only")
def test_a_workdir_that_becomes_read_only(tmp_path):
    """The program ends, though Orbax's threads would wait for one another for five minutes."""
    with full_disk(tmp_path / "disk") as workdir:
        save_all(workdir, (1, 2), keep=2)
        process = subprocess.Popen(
            [sys.executable, "-c", "from tests.train.checkpoints.test_disks import go_on; go_on()", workdir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"},
        )
        assert process.stdout.readline() == "opened\n"
        subprocess.run(["mount", "-o", "remount,ro", str(workdir)], check=True)
        _, errors = process.communicate("\n", timeout=60)
        assert re.search(r"cannot be written to .*Read-only file system.* those of the steps 1, 2", errors)
        assert process.returncode == 1
        assert restored_step(workdir, read_only=True) == 2
        with pytest.raises(OSError, match=r"workdir .*disk cannot be written: .*Read-only file system"):
            lock.held(workdir).__enter__()


def go_on():
    """Saves a third step to the workdir of the command line, after a line of standard input."""
    checkpoints = Checkpoints(sys.argv[1], keep=2)
    print("opened", flush=True)
    sys.stdin.readline()
    sys.exit(program.status_of(lambda: save_and_wait(checkpoints, 3)))
