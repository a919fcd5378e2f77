"""Signals as requests, in a process of its own."""

import signal
import subprocess
import sys

import pytest

CODE = """
import os, signal, sys, time
from mhe_jax.train.parallel import interruption
interruption._SAME_REQUEST_SECONDS = 1.0
with interruption.Interruption() as asked:
    assert not asked.requested
    os.kill(os.getpid(), signal.{first})
    os.kill(os.getpid(), signal.SIGTERM)  # the same request, from another sender
    assert asked.requested
    time.sleep(1.2)
    print("still here", flush=True)
    if {again}:
        os.kill(os.getpid(), signal.SIGTERM)
print("left", flush=True)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""


@pytest.mark.parametrize("first", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize("again", [False, True])
def test_a_first_signal_asks_and_a_later_one_ends(first, again):
    command = [sys.executable, "-c", CODE.format(first=first, again=again)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (128 + signal.SIGTERM if again else 0), done.stderr
    assert done.stdout == ("still here\n" if again else "still here\nleft\n")


EARLY = """
import os, signal
from mhe_jax.train.parallel import interruption
interruption.leave_at_once({})
os.kill(os.getpid(), signal.{})
"""


@pytest.mark.parametrize("code", [75, None])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_before_there_is_anything_to_save(name, code):
    done = subprocess.run([sys.executable, "-c", EARLY.format(code, name)], check=False)
    assert done.returncode == (code or 128 + signal.Signals[name])
