"""Load on a server: what is counted, and that dynamic batching answers everybody."""

import asyncio
import json

import pytest

from mhe_jax.serving.load import Connection, closed_loop, open_loop
from tests.command_line import mhe
from tests.serving.conftest import encoded, png

pytestmark = pytest.mark.slow

BODIES = [json.dumps({"inputs": [encoded(png(seed=seed))], "top_k": 3}).encode() for seed in range(5)]


def test_clients_that_wait(address):
    seen = asyncio.run(closed_loop(address, "/v1/predict", BODIES, clients=6, seconds=1.0))
    assert seen.answered > 6
    assert seen.others == {}
    assert 0 < seen.p50 <= seen.p95 <= seen.p99 < 5000
    assert seen.per_second == pytest.approx(seen.answered, rel=0.5)


def test_clients_that_do_not_wait(address):
    seen = asyncio.run(open_loop(address, "/v1/predict", BODIES, rate=40, seconds=1.0))
    assert 10 < seen.answered < 90
    assert seen.others == {}


def test_what_is_not_answered_is_counted(address):
    bodies = [*BODIES[:1], json.dumps({"inputs": ["?"]}).encode()]
    seen = asyncio.run(closed_loop(address, "/v1/predict", bodies, clients=2, seconds=0.5))
    assert set(seen.others) == {"422"}
    assert seen.answered
    gone = asyncio.run(closed_loop("http://127.0.0.1:9", "/", [b""], clients=1, seconds=0.05))
    assert gone.answered == 0
    assert set(gone.others) == {"refused"}


def test_a_thousand_connections(address):
    async def scenario():
        connections = [Connection(address) for _ in range(1000)]
        found = await asyncio.gather(*(one.post("/v1/predict", BODIES[0]) for one in connections))
        for one in connections:
            one.close()
        return [status for status, _ in found]

    found = asyncio.run(scenario())
    # The queue of this server holds 80 inputs; all others are told to come again.
    assert set(found) <= {"200", "429"}
    assert found.count("200") >= 80


def test_the_command(workdirs, tmp_path):
    flags = ["--seconds=0.5", "--clients=1,4", "--rates=20", f"--output={tmp_path / 'figures.json'}"]
    done = mhe("bench-serve", workdirs["texts"], "--serve_flags=--drain_seconds=0", *flags)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [one["others"] for one in figures] == [{}] * 3
    assert figures[1]["clients"] == 4
    assert figures[1]["answered"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "one of a run's folder and --url is needed"),
        (["a", "--clients=0"], "--clients has '0'; numbers above 0 are needed"),
        (["a", "--rates=x"], "--rates has 'x'; numbers above 0 are needed"),
    ],
)
def test_mistakes(arguments, says):
    done = mhe("bench-serve", *arguments)
    assert done.returncode == 2
    assert done.stderr == f"error: {says}\n"
