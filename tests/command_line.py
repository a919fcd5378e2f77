"""`python main.py FLAGS` many times: each in a process of its own, forked from one that has imported what a run needs.

Starting Python and importing JAX, Flax and Orbax costs seconds; two steps of a small config cost less. A forked
process differs from a started one in nothing else: it runs main.py as `__main__`, with flags, output and exit status of
its own.
"""

import json
import os
import pathlib
import runpy
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


class CommandLine:
    """The server, started with the first command, as its client sees it; one command at a time."""

    def __init__(self, folder: pathlib.Path):
        """`folder` takes the output of the command that runs."""
        self._out, self._err = folder / "out", folder / "err"
        self._server: subprocess.Popen[str] | None = None

    def __call__(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """Runs `python main.py FLAGS`, from the root of the checkout, to its end."""
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, __file__],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        arguments = ["main.py", *flags]
        json.dump({"argv": arguments, "out": str(self._out), "err": str(self._err)}, self._server.stdin)
        print(file=self._server.stdin, flush=True)
        code = int(self._server.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, self._out.read_text(), self._err.read_text())

    def close(self) -> None:
        if self._server is not None:
            self._server.communicate()


def mhe(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `mhe ARGUMENTS` in a process that begins with Python itself."""
    return subprocess.run(
        [sys.executable, "-m", "mhe_jax", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def serve() -> list[str]:
    """Forks for each command of standard input, and prints its exit status; in the fork it returns the arguments."""
    for line in sys.stdin:
        command = json.loads(line)
        process = os.fork()
        if process == 0:
            for number, name in enumerate((os.devnull, command["out"], command["err"])):
                opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
                os.dup2(opened, number)
                os.close(opened)
            return command["argv"]
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    sys.exit()


if __name__ == "__main__":
    # What cli/run.py imports for a run; none of it touches a device or starts a thread of Python's.
    from mhe_jax.cli import run  # noqa: F401
    from mhe_jax.inference import evaluate, predict  # noqa: F401
    from mhe_jax.train import loop  # noqa: F401
    from mhe_jax.train.reporting import describe  # noqa: F401

    sys.argv = serve()
    runpy.run_path("main.py", run_name="__main__")
