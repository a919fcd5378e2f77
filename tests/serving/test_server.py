"""`mhe serve` as a process: its mistakes, its end under load, newer weights under load, a run that is deleted."""

import asyncio
import collections
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from mhe_jax.serving.load import Connection
from mhe_jax.train.loop import train_and_evaluate
from tests import tiny_config
from tests.command_line import ROOT, mhe
from tests.serving.conftest import encoded, png

BODY = json.dumps({"inputs": [encoded(png())], "top_k": 3}).encode()
CLIENTS = 16


class Process:
    """`mhe serve FLAGS` on a free port."""

    def __init__(self, *flags, **environment):
        command = [sys.executable, "-m", "mhe_jax", "serve", "--port=0", *map(str, flags)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.startswith("listening on "):
                self.url = line.split()[-1]
                return
        raise AssertionError(self.process.communicate()[1])

    def get(self, route, **headers):
        with urllib.request.urlopen(urllib.request.Request(self.url + route, headers=headers)) as answer:
            return answer.read()

    def model(self):
        return json.loads(self.get("/v1/models"))[0]

    def end(self, sent=signal.SIGTERM):
        self.process.send_signal(sent)
        _out, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextlib.contextmanager
def server(*flags, **environment):
    process = Process(*flags, **environment)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


async def under_load(url, act, after=1.0):
    """Statuses that clients see who ask without pause, until some time after `act`, or until nobody listens."""
    seen, over = collections.Counter(), asyncio.Event()

    async def client():
        connection = Connection(url)
        while not over.is_set():
            status, _ = await connection.post("/v1/predict", BODY)
            if status == "refused":
                break
            seen[status] += 1
        connection.close()

    clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    await asyncio.sleep(0.7)
    await asyncio.get_running_loop().run_in_executor(None, act)
    await asyncio.wait(clients, timeout=after)
    over.set()
    await asyncio.gather(*clients)
    return seen


def train(workdir, steps):
    config = tiny_config.get_config()
    config.total_steps, config.eval_every_steps, config.checkpoint_every_steps = steps, 0, 2
    train_and_evaluate(config, workdir)


@pytest.mark.slow
def test_every_request_that_was_taken_is_answered_at_the_end(workdirs):
    with server(workdirs["pictures"]) as running:
        seen = asyncio.run(under_load(running.url, lambda: running.process.send_signal(signal.SIGTERM), after=20))
        _out, err = running.process.communicate(timeout=60)
        assert running.process.returncode == 0, err
        assert set(seen) == {"200"}
        assert seen["200"] > CLIENTS


@pytest.mark.slow
def test_newer_weights_are_taken_under_load_and_a_deleted_run_stays(tmp_path):
    train(tmp_path / "run", 2)
    with server(f"mine={tmp_path / 'run'}", "--reload_seconds=0.2") as running:
        assert running.lines[-2:-1] == ["mine: pictures, mhp, 19 classes, step 2"]
        assert running.model()["step"] == 2

        def go_on():
            train(tmp_path / "run", 4)
            while running.model()["step"] != 4:
                time.sleep(0.1)

        seen = asyncio.run(under_load(running.url, go_on))
        assert set(seen) == {"200"}
        shutil.rmtree(tmp_path / "run")
        seen = asyncio.run(under_load(running.url, lambda: time.sleep(1)))
        assert set(seen) == {"200"}
        assert running.model()["step"] == 4
        assert "run" in running.model()["stale"]
        code, err = running.end(signal.SIGINT)
        assert code == 0, err
        # A folder that is being deleted may be found in several states.
        assert 1 <= err.count("keeps its weights of step 4") < 5


def test_a_token_and_other_hosts(workdirs, tmp_path):
    (tmp_path / "token").write_text("hunter2\n")
    with server(workdirs["texts"], f"--token_file={tmp_path / 'token'}") as running:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            running.get("/v1/models")
        assert running.get("/v1/models", Authorization="Bearer hunter2")
        with pytest.raises(urllib.error.HTTPError, match="421"):
            running.get("/healthz", Host="evil.example")


def test_mistakes(workdirs, tmp_path):
    def says(*arguments):
        done = mhe("serve", *arguments)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr

    run = workdirs["texts"]
    assert "the folder of a run is needed" in says()
    assert "holds no run of this program" in says(tmp_path, "--port=0")
    assert "are both named texts" in says(run, f"texts={run}")
    assert "there is no run 'b'; there are: texts" in says(run, "--gallery=b=x")
    (tmp_path / "a=b").mkdir()
    assert f"{tmp_path}/a=b holds no picture" in says(workdirs["faces"], f"--gallery={tmp_path}/a=b", "--port=0")
    assert "x and y are both of faces" in says(workdirs["faces"], "--gallery=x", "--gallery=faces=y")
    assert "holds no picture" in says(workdirs["faces"], f"--gallery={tmp_path}", "--port=0")
    assert "max_top_k is 0" in says(run, "--max_top_k=0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port} cannot be listened on" in says(run, f"--port={port}")
    (tmp_path / "empty").touch()
    assert "holds no token" in says(run, f"--token_file={tmp_path / 'empty'}")
