"""Signals as requests, in a process of its own."""

import signal
import subprocess
import sys

import pytest

CODE = """
import os, signal, sys, time
from mhe_jax.train.parallel import interruption
interruption._SAME_REQUEST_SECONDS = 0.5

def ask(name):
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(0.1)

with interruption.Interruption() as asked:
    assert not asked.requested
    ask("{first}")
    assert asked.requested
    ask("SIGTERM")  # the same request, from another sender
    time.sleep(0.6)
    print("still here", flush=True)
    {then}
print("left", flush=True)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert signal.set_wakeup_fd(-1) == -1
"""


def ended(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


# The signal comes to the timer's thread, and the main thread does not come back to Python.
STUCK = """import ctypes, threading
    threading.Timer(0.3, ask, ["SIGTERM"]).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    ctypes.CDLL(None).poll(None, 0, 30_000)"""


@pytest.mark.parametrize("first", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("pass", 0),
        ("ask('SIGTERM')", 75),
        # As inside a collective that a peer never joins.
        (STUCK, 75),
    ],
    ids=["once", "again", "again while stuck"],
)
def test_a_first_signal_asks_and_a_later_one_ends(first, then, code):
    done = ended(CODE.format(first=first, then=then))
    assert done.returncode == code, done.stderr
    assert done.stdout == ("still here\n" if code else "still here\nleft\n")
    assert ("SIGTERM again: ended at once" in done.stderr) == bool(code)


SAVE = """asked.saving = True
    ask('SIGTERM')
    time.sleep(0.6)
    print("told", flush=True)
    asked.saving = False
    asked.saving = True  # of another checkpoint: it is told once
    {}"""


@pytest.mark.parametrize("insists", [True, False])
def test_while_a_checkpoint_is_written_a_second_signal_waits_and_a_third_ends(insists):
    done = ended(CODE.format(first="SIGTERM", then=SAVE.format("ask('SIGTERM'); print('never')" if insists else "")))
    assert done.returncode == (75 if insists else 0)
    assert done.stdout.startswith("still here\ntold\n")
    assert "never" not in done.stdout
    assert "SIGTERM again: the last checkpoint is being written" in done.stderr
    assert ("ended at once" in done.stderr) == insists


NOBODY_READS = """
import os, signal, sys, time
from mhe_jax.train.parallel import interruption
interruption._SAME_REQUEST_SECONDS = 0.0
reading, writing = os.pipe()
if {full}:
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(1 << 16))
    except BlockingIOError:
        os.set_blocking(writing, True)
else:
    os.close(reading)
os.dup2(writing, 2)
with interruption.Interruption():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
    print("still here")
"""


@pytest.mark.parametrize("full", [False, True])
def test_it_ends_also_where_nobody_reads_what_it_says(full):
    done = ended(NOBODY_READS.format(full=full))
    assert (done.returncode, done.stdout) == (75, "")


WORKERS = """
import multiprocessing, os, signal, time
from mhe_jax.train.parallel import interruption

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
    interruption.leave_at_once(75)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_workers_end_with_a_process_that_ends_at_once(tmp_path):
    (tmp_path / "program.py").write_text(WORKERS)
    # The worker has the pipe too: this returns when both are gone, and not before.
    command = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    assert done.returncode == 75


FORKED = """
import multiprocessing, os, signal, time
from mhe_jax.train.parallel import interruption
with interruption.Interruption() as asked:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    time.sleep(0.2)
    child.terminate()
    child.join(10)
    time.sleep(0.2)
    print(child.exitcode, asked.requested)
"""


def test_a_child_ends_by_its_own_signals_and_does_not_pass_them_on():
    assert ended(FORKED).stdout == f"{-signal.SIGTERM} False\n"


LOOPS = """
import os, signal, time
import uvloop
from mhe_jax.train.parallel import interruption

async def ask():
    os.kill(os.getpid(), signal.SIGTERM)

with interruption.Interruption() as asked:
    uvloop.run(ask())
    time.sleep(0.1)
    print(asked.requested)
    asked.requested = False
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
    print(asked.requested)
"""


def test_signals_come_during_and_after_the_event_loop_of_a_library():
    done = ended(LOOPS)
    assert done.stdout == "True\nTrue\n", done.stderr


LOST = """
import gc, os, signal, sys, time
from mhe_jax.train.parallel import interruption
interruption.leave_at_once(75)
# Python prints what a callback of the collector raises, and goes on.
gc.callbacks.append(lambda phase, info: os.kill(os.getpid(), signal.SIGTERM))
gc.collect()
time.sleep(5)
print("went on")
"""


def test_a_signal_inside_a_callback_of_the_garbage_collector_is_not_lost():
    done = ended(LOST)
    assert (done.returncode, done.stdout) == (75, "")


EARLY = """
import os, signal, time
from mhe_jax.train.parallel import interruption
interruption.leave_at_once({})
os.kill(os.getpid(), signal.{})
time.sleep(60)
"""


@pytest.mark.parametrize("code", [75, None])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_before_there_is_anything_to_save(name, code):
    done = subprocess.run([sys.executable, "-c", EARLY.format(code, name)], check=False)
    assert done.returncode == (code or 128 + signal.Signals[name])
