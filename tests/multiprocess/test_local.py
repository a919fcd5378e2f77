"""The launcher by itself, around processes that are no runs."""

import os
import signal
import subprocess
import sys
import time

import pytest

from launch import local
from tests.multiprocess.launched import ROOT


def supervise(codes, grace=20.0):
    """Exit code and output of the launcher around `python -c` programs."""
    program = (
        "import os, sys; from launch import local\n"
        f"lines = [[sys.executable, '-c', code] for code in {codes!r}]\n"
        f"sys.exit(local.supervise(lines, [os.environ] * {len(codes)}, {grace}))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


LEAVE = "import sys; sys.exit({})"
WAIT = "import time; time.sleep(60)"
DIE = "import os; os.kill(os.getpid(), 9)"
SAVE = """import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
print('up', flush=True)
time.sleep(60)"""


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([LEAVE.format(0)] * 2, 0),
        ([LEAVE.format(75)] * 2, 75),
        ([LEAVE.format(75), LEAVE.format(0)], 75),
        ([LEAVE.format(3), LEAVE.format(0)], 3),
        ([LEAVE.format(75), LEAVE.format(2)], 2),
        ([DIE, LEAVE.format(0)], 137),
    ],
)
def test_the_code_is_that_of_the_first_that_failed(codes, expected):
    process = supervise(codes)
    process.communicate(timeout=120)
    assert process.returncode == expected


def test_lines_carry_the_number_of_their_process():
    out, err = supervise(["print('a\\nb')", "import sys; print('c', file=sys.stderr)"]).communicate(timeout=120)
    assert sorted(out.splitlines()) == ["[0] a", "[0] b"]
    assert [line for line in err.splitlines() if not line.startswith("[local]")] == ["[1] c"]


def test_what_outlives_a_failure_is_killed():
    started = time.monotonic()
    process = supervise([DIE, WAIT], grace=1.0)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 137
    assert time.monotonic() - started < 50
    assert "[local] process 0 was killed by SIGKILL" in err
    assert "[local] killing what is left 1 s after the first failure" in err
    assert "[local] process 1 was killed by SIGKILL" in err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP"])
def test_signals_reach_all_processes(name):
    with supervise([SAVE, SAVE]) as process:
        assert sorted([process.stdout.readline(), process.stdout.readline()]) == ["[0] up\n", "[1] up\n"]
        process.send_signal(signal.Signals[name])
        assert process.wait(timeout=120) == 75


def test_gpus_are_dealt_out_in_order(monkeypatch):
    seen = lambda process: local.environment("cuda", 2, 2, process)["CUDA_VISIBLE_DEVICES"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [seen(0), seen(1)] == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert seen(0) == "4,6"
    with pytest.raises(OSError, match=r"process 1 needs 2 GPU\(s\), but CUDA_VISIBLE_DEVICES=4,6,7 has too few"):
        seen(1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert [local.environment("cpu", 2, 4, 1)[name] for name in ("JAX_NUM_CPU_DEVICES", "NPROC")] == ["4", "8"]
    assert "JAX_NUM_CPU_DEVICES" not in os.environ


def test_all_processes_find_each_other_at_one_address():
    first, second = local.commands(2, ["--mode=eval"])
    assert first[:-1] == second[:-1]
    assert first[-4] == "--mode=eval"
    assert first[-3].startswith("--coordinator=127.0.0.1:")
    assert [first[-1], second[-1]] == ["--process_id=0", "--process_id=1"]
