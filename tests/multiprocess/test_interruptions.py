"""What one process suffers, the others learn: signals, kills, stalls, peers that never come."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from launch.local import free_port
from mhe_jax.train.reporting import writers
from tests.multiprocess.launched import ROOT, Launched

LONG = [
    f"--config={ROOT / 'tests' / 'tiny_config.py'}",
    "--config.total_steps=1000000",
    "--config.eval_every_steps=1000000",
    "--config.checkpoint_every_steps=1000000",
    "--config.heartbeat_seconds=10",
]


def last_step(workdir):
    events = writers.read_events(workdir / "metrics.jsonl")
    return events[-1]["step"] if events else 0


def checkpoints(workdir):
    return [int(path.name) for path in (workdir / "checkpoints").iterdir()]


@pytest.mark.slow
def test_a_signal_to_one_stops_all_an_intruder_is_turned_away_and_a_kill_of_one_ends_the_others(tmp_path):
    workdir = tmp_path / "run"
    launched = Launched(tmp_path / "log", 2, 2, *LONG, f"--workdir={workdir}")
    launched.wait_for(lambda: last_step(workdir) > 3)
    os.kill(launched.pid(1), signal.SIGTERM)
    code, _ = launched.wait()
    assert code == 75, launched.output[-5000:]
    result = json.loads((workdir / "result.json").read_text())
    assert result["interrupted"] is True
    # Both took part in saving this one step.
    assert checkpoints(workdir) == [result["step"]]
    assert last_step(workdir) == result["step"]

    launched = Launched(tmp_path / "log", 2, 2, *LONG, f"--workdir={workdir}")
    launched.wait_for(lambda: last_step(workdir) > result["step"] + 3)
    intruder = Launched(tmp_path / "intruder", 2, 1, *LONG, f"--workdir={workdir}")
    assert intruder.wait()[0] == 1
    assert "is in use by another run (host " in intruder.output
    assert launched.process.poll() is None, launched.output[-5000:]
    os.kill(launched.pid(1), signal.SIGKILL)
    code, seconds = launched.wait()
    assert code == 128 + signal.SIGKILL
    assert seconds < 50
    assert "[local] process 1 was killed by SIGKILL" in launched.output
    assert "[local] killing what is left" not in launched.output
    # Of the survivor itself, which hears it from JAX's coordination service or from the broken connection.
    said = [line for line in launched.output.splitlines() if line.startswith("[0] ")]
    assert any("stopped sending heartbeats" in line or "error: process 1 of 2" in line for line in said), said[-40:]
    assert checkpoints(workdir) == [result["step"]]


def test_a_peer_that_never_comes_is_reported(tmp_path):
    flags = ["--coordinator=127.0.0.1:1", "--num_processes=2", "--process_id=1", "--config.peer_seconds=5"]
    command = [sys.executable, "main.py", *LONG, *flags, f"--workdir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "error: process 1 of 2 did not find all others at 127.0.0.1:1 in 5 s" in done.stderr


def start_two(workdir, *flags_of_second):
    both = [*LONG, f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", f"--workdir={workdir}"]
    flags = [["--process_id=0"], ["--process_id=1", *flags_of_second]]
    return [
        subprocess.Popen(
            [sys.executable, "main.py", *both, *own],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in flags
    ]


def test_a_mistake_of_one_ends_the_others(tmp_path):
    started = start_two(tmp_path / "run", "--config.head.name=mhx")
    said = [process.communicate(timeout=300)[1] for process in started]
    assert started[1].returncode == 2
    assert "error: config.head.name is 'mhx'" in said[1]
    assert "error: process 0 of 2 has not come to 'the end after an error'" in said[1]
    assert started[0].returncode not in (0, 75)
    # It waits at a barrier, which learns of the death as the process itself does.
    assert "stopped sending heartbeats" in said[0] or "error: process 1 of 2 has not come to 'the data'" in said[0]


def test_processes_that_read_different_data_say_so_and_end(tmp_path):
    started = start_two(tmp_path / "run", "--config.data.num_examples=64")
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [2, 2], said
    for text in said:
        assert "error: process 1 of 2 reads other data than process 0: train examples: 64, 100 there" in text
    assert not (tmp_path / "run" / "checkpoints").exists()


BARRIER = """
import sys, time
from mhe_jax.train.parallel import distributed
number, port = int(sys.argv[1]), sys.argv[2]
distributed.initialize(f"127.0.0.1:{port}", 3, number, False, heartbeat_seconds=20, peer_seconds=60)
assert distributed.agree_on_text("who", f"from {number}") == "from 0"
distributed.barrier("the start", 30)
if number == 1:
    time.sleep(5)
else:
    try:
        distributed.barrier("the data", 2)
    except distributed.MissingProcessError as error:
        print(error, flush=True)
"""


def test_a_barrier_names_who_is_missing(tmp_path):
    port = str(free_port())
    started = [
        subprocess.Popen([sys.executable, "-c", BARRIER, str(i), port], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for i in range(3)
    ]
    printed = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    for number in (0, 2):
        assert re.fullmatch(r"process 1 of 3 has not come to 'the data' in \d s\n", printed[number])


STALL = """
import time
from mhe_jax.train.parallel.watchdog import Watchdog

def stuck():
    time.sleep(60)

with Watchdog(0.5) as watchdog:
    for _ in range(5):
        time.sleep(0.2)
        watchdog.beat()
    print("moved for a second", flush=True)
    stuck()
"""


def test_a_stalled_run_ends_with_its_stacks():
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", STALL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert time.monotonic() - started < 30
    assert done.stdout == "moved for a second\n"
    assert "error: no step and no batch ended for 0.5 s (config.stall_seconds)" in done.stderr
    assert "in stuck" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_processes=2"], "--coordinator, --process_id is missing"),
        (["--coordinator=here", "--num_processes=2", "--process_id=0"], "HOST:PORT"),
        (["--coordinator=h:1", "--num_processes=2", "--process_id=2"], "0 <= process_id < num_processes"),
        (["--distributed=auto", "--process_id=1"], "--distributed=auto finds"),
        (["--distributed=auto"], "this is no Slurm, Open MPI, Kubernetes or TPU job"),
    ],
)
def test_wrong_flags_get_one_line(flags, message, tmp_path):
    command = [sys.executable, "main.py", *LONG, *flags, f"--workdir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert message in done.stderr.splitlines()[-1]
