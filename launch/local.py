"""Starts one run as several processes on this machine, and ends with them.

    python launch/local.py --processes=2 --devices=4 -- --config=configs/glyphs_mhp.py
    python launch/local.py --platform=cuda --processes=8 --devices=1 -- --config=configs/imagenet_mhp.py

What follows `--` is for main.py. Nothing here needs editing. With --platform=cpu (the default) each process gets
--devices made-up devices; with cuda, --devices of the machine's GPUs (of CUDA_VISIBLE_DEVICES, if that is set), in
order. Output lines are prefixed with the number of their process. SIGTERM, SIGINT and SIGUSR1 are passed on to all, and
SIGHUP as SIGTERM. When a process fails, the others have --grace seconds to notice, say so and end, before they are
killed.

Returns the code of the first process that failed, 128 + n for signal n; else 75 if one asked to be started again
(mhe_jax/train/parallel/interruption.py), else 0. JAX_COMPILATION_CACHE_DIR, if set, keeps compiled programs between
runs.
"""

import argparse
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import BinaryIO

MAIN = pathlib.Path(__file__).resolve().parent.parent / "main.py"
REQUEUE = 75


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], usage="%(prog)s [options] -- main.py's flags")
    parser.add_argument("--processes", type=int, default=2, help="how many processes")
    parser.add_argument("--devices", type=int, default=1, help="devices of each")
    parser.add_argument("--platform", choices=["cpu", "cuda"], default="cpu", help="what kind of devices")
    parser.add_argument("--grace", type=float, default=90.0, help="seconds between the first failure and the killing")
    parser.add_argument("flags", nargs="*", help="flags of main.py, after --")
    options = parser.parse_args(arguments)
    if options.processes < 1 or options.devices < 1:
        parser.error("--processes and --devices must be at least 1")
    try:
        sizes = (options.platform, options.processes, options.devices)
        environments = [environment(*sizes, i) for i in range(options.processes)]
        return supervise(commands(options.processes, options.flags), environments, options.grace)
    except OSError as error:
        sys.exit(f"error: {error}")


def commands(processes: int, flags: list[str]) -> list[list[str]]:
    """The command line of each process.

    One process alone has a coordinator as well: CPU devices then add up their numbers in the same order as those of
    several processes, and the run's figures are the same to the last bit.
    """
    command = [sys.executable, "-u", str(MAIN), *flags]
    where = [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={processes}"]
    return [[*command, *where, f"--process_id={i}"] for i in range(processes)]


def environment(platform: str, processes: int, devices: int, process: int) -> dict[str, str]:
    """The environment of a process: this one's, and its devices.

    XLA cuts long sums into as many parts as a process has threads, and a process has one for each CPU device at least.
    Here all have as many as the whole run would in one process: the parts are the same for any number of processes.

    A GPU is hidden by CUDA itself and not by JAX's local_device_ids, so that no library in the process can touch it.
    """
    if platform == "cpu":
        threads = str(max(os.cpu_count() or 1, processes * devices))
        return {"NPROC": threads, **os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    last = (process + 1) * devices
    there = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(last)))
    mine = there.split(",")[last - devices : last]
    if len(mine) < devices:
        raise OSError(f"process {process} needs {devices} GPU(s), but CUDA_VISIBLE_DEVICES={there} has too few")
    # Named, so that a GPU that cannot be used is an error; JAX would take the CPU instead.
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(mine), "JAX_PLATFORMS": "cuda,cpu"}


def free_port() -> int:
    """A port on which nothing listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def supervise(lines: list[list[str]], environments: list[dict[str, str]], grace: float) -> int:
    """Runs the command lines until all have ended; see the module."""
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: asked.put(number))
    # A terminal that is closed: the processes, which have none, would stay.
    signal.signal(signal.SIGHUP, lambda number, frame: asked.put(signal.SIGTERM))
    processes = start(lines, environments)
    readers = []
    for i, process in enumerate(processes):
        say(f"process {i} has pid {process.pid}")
        for source, target in ((process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer)):
            readers.append(threading.Thread(target=copy_lines, args=(source, target, i), daemon=True))
            readers[-1].start()

    failed: list[tuple[int, int]] = []
    ended: set[int] = set()
    deadline = float("inf")
    while len(ended) < len(processes):
        for i, process in enumerate(processes):
            if i in ended or process.poll() is None:
                continue
            ended.add(i)
            if process.returncode not in (0, REQUEUE):
                failed.append((i, process.returncode))
                say(f"process {i} {how(process.returncode)}")
                deadline = min(deadline, time.monotonic() + grace)
        running = [process for i, process in enumerate(processes) if i not in ended]
        while not asked.empty():
            number = asked.get()
            for process in running:
                process.send_signal(number)
        if time.monotonic() > deadline:
            say(f"killing what is left {grace:g} s after the first failure")
            for process in running:
                process.kill()
            deadline = float("inf")
        time.sleep(0.05)
    for reader in readers:
        reader.join(timeout=5)
    if failed:
        code = failed[0][1]
        return 128 - code if code < 0 else code
    return max(process.returncode for process in processes)


def start(lines: list[list[str]], environments: list[dict[str, str]]) -> list[subprocess.Popen]:
    """Starts all command lines, or none."""
    processes: list[subprocess.Popen] = []
    try:
        for line, env in zip(lines, environments, strict=True):
            # A session of its own: a terminal's Ctrl-C reaches this process alone, which passes it on once.
            processes.append(
                subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
            )
    except OSError:
        for process in processes:
            process.kill()
        raise
    return processes


def copy_lines(source: BinaryIO, target: BinaryIO, process: int) -> None:
    """Copies lines until the end, each in one piece and with the number of its process."""
    for line in source:
        target.write(b"[%d] %s\n" % (process, line.rstrip(b"\n")))
        target.flush()


def say(text: str) -> None:
    print(f"[local] {text}", file=sys.stderr, flush=True)


def how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with code {code}"


if __name__ == "__main__":
    sys.exit(main())
