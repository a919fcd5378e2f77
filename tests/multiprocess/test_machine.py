import pathlib
import subprocess
import sys

from launch.local import free_port
from mhe_jax.train.parallel.machine import processes_here

ROOT = pathlib.Path(__file__).parents[2]

COUNT = """
import socket, sys
from mhe_jax.train.parallel import distributed, machine
number, port = int(sys.argv[1]), sys.argv[2]
distributed.initialize(f"127.0.0.1:{port}", 3, number, False, heartbeat_seconds=60, peer_seconds=120)
socket.gethostname = lambda: "other" if number == 1 else "same"
print(machine.processes_here(), machine.processes_here(), flush=True)
distributed.barrier("the end", 60)
"""


def test_processes_with_one_host_name_are_counted():
    port = str(free_port())
    started = [
        subprocess.Popen([sys.executable, "-c", COUNT, str(i), port], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for i in range(3)
    ]
    printed = [process.communicate(timeout=300)[0] for process in started]
    assert printed == ["2 2\n", "1 1\n", "2 2\n"]


def test_a_process_by_itself_is_alone():
    assert processes_here() == 1
