"""`python main.py FLAGS` and `mhe ARGUMENTS` many times, each in a process of its own, forked from one that has
imported what a run needs.

Starting Python and importing JAX, Flax and Orbax costs seconds; two steps of a small config cost less. A forked
process differs from a started one in nothing else: it runs main.py, or the package, as `__main__`, with flags, output
and exit status of its own.
"""

import atexit
import functools
import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent


class CommandLine:
    """The server, started with the first command, as its client sees it; one command at a time."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._out, self._err = (pathlib.Path(self._folder.name, name) for name in ("out", "err"))
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `python ARGUMENTS`, main.py or -m mhe_jax, from the root of the checkout, to its end."""
        json.dump({"argv": list(arguments), "out": str(self._out), "err": str(self._err)}, self._server.stdin)
        print(file=self._server.stdin, flush=True)
        code = int(self._server.stdout.readline())
        return subprocess.CompletedProcess(list(arguments), code, self._out.read_text(), self._err.read_text())

    def close(self) -> None:
        self._server.communicate()
        self._folder.cleanup()


@functools.cache
def _started() -> CommandLine:
    commands = CommandLine()
    atexit.register(commands.close)
    return commands


def main(*flags: object) -> subprocess.CompletedProcess[str]:
    """Runs `python main.py FLAGS`."""
    return _started()("main.py", *map(str, flags))


def mhe(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `mhe ARGUMENTS`, from the root of the checkout."""
    return _started()("-m", "mhe_jax", *map(str, arguments))


def mhe_anew(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`mhe` in a process that begins with Python itself, where a library reads the environment as it is imported."""
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
    # What cli/ imports for runs and baselines; none of it touches a device or starts a thread of Python's.
    import sklearn.model_selection
    import sklearn.svm  # noqa: F401

    from mhe_jax.cli import run  # noqa: F401
    from mhe_jax.data import build  # noqa: F401
    from mhe_jax.inference import baseline, evaluate, predict  # noqa: F401
    from mhe_jax.train import loop  # noqa: F401
    from mhe_jax.train.reporting import describe  # noqa: F401

    sys.argv = serve()
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
