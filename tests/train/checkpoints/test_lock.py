"""One run at a time in a workdir, in processes of their own."""

import pathlib
import signal
import socket
import subprocess
import sys
import threading

import pytest

from mhe_jax.train.checkpoints import lock

ROOT = pathlib.Path(__file__).parents[3]
HOLD = (
    "import pathlib, sys, time\n"
    "from mhe_jax.train.checkpoints import lock\n"
    "with lock.held(pathlib.Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(600)\n"
)


def hold(workdir):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(workdir)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process.stdout:
        assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_workdir_in_use_is_refused_and_free_when_its_holder_dies(tmp_path, monkeypatch, number):
    monkeypatch.setattr(lock, "_PATIENCE", 0.3)
    process = hold(tmp_path / "run")
    try:
        with pytest.raises(lock.InUseError, match="is in use by another run") as raised, lock.held(tmp_path / "run"):
            pass
        assert f"host {socket.gethostname()}, process {process.pid}, since" in str(raised.value)
    finally:
        process.send_signal(number)
        process.wait()
    with lock.held(tmp_path / "run"):
        pass


def test_a_lock_of_another_host_can_be_one_that_outlived_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    process = hold(tmp_path)
    try:
        with pytest.raises(lock.InUseError) as raised, lock.held(tmp_path):
            pass
        assert "has died" not in str(raised.value)
        # As seen from elsewhere: the system lets go of a lock here, but a file server may not know of the death.
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        with pytest.raises(lock.InUseError, match=r"if that host has died .* remove .*run.lock"), lock.held(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_run_waits_a_moment_for_the_one_before_it_to_end(tmp_path):
    process = hold(tmp_path)
    threading.Timer(0.5, process.kill).start()
    with lock.held(tmp_path):
        assert process.wait() == -signal.SIGKILL


def test_a_workdir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"workdir .*file/run cannot be written"), lock.held(tmp_path / "file" / "run"):
        pass
