"""Who may ask, how much, and for how long: the gate in front of an application that does as it is told."""

import asyncio
import json

import pytest

from mhe_jax.serving.gate import Gate
from mhe_jax.serving.metrics import Metrics
from mhe_jax.serving.options import Options


class Application:
    """Answers with the length of the body, after it was let; remembers who was cancelled."""

    def __init__(self):
        self.may, self.cancelled, self.bodies = asyncio.Event(), 0, []

    async def __call__(self, scope, receive, send):
        body = (await receive())["body"]
        self.bodies.append(len(body))
        if scope["path"] == "/slow":
            try:
                await self.may.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"keep-alive")]})
        await send({"type": "http.response.body", "body": str(len(body)).encode()})


class Client:
    """One request, its body in parts; `hang_up` ends it."""

    def __init__(self, path="/", parts=(b"",), headers=None, whole=True):
        raw = {b"host": b"localhost:8000", **(headers or {})}
        self.scope = {"type": "http", "method": "POST", "path": path, "headers": list(raw.items())}
        self.sent, self.gone = [], asyncio.Event()
        self._parts, self._whole = list(parts), whole

    async def receive(self):
        if self._parts:
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts) or not self._whole}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    async def ask(self, gate):
        await asyncio.wait_for(gate(self.scope, self.receive, self.send), 20)
        return self

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return {name.lower().decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def error(self):
        return json.loads(self.sent[1]["body"])["error"]


def run(scenario, **fields):
    """Runs scenario(gate, application)."""

    async def whole():
        application = Application()
        gate = Gate(application, Options(**fields), Metrics(), ["/"])
        return await scenario(gate, application)

    return asyncio.run(whole())


def test_a_body_arrives_whole_and_once():
    async def scenario(gate, application):
        client = await Client(parts=[b"abc", b"", b"de"]).ask(gate)
        assert client.sent[1]["body"] == b"5"
        assert client.headers["x-content-type-options"] == "nosniff"

    run(scenario)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large(announced):
    async def scenario(gate, application):
        headers = {b"content-length": b"30"} if announced else {b"transfer-encoding": b"chunked"}
        client = await Client(parts=[b"a" * 15, b"b" * 15], headers=headers).ask(gate)
        assert (client.status, client.error) == (413, "the request has more than 20 bytes")
        assert application.bodies == []
        # Nothing of it is held any more.
        for _ in range(40):
            assert (await Client(parts=[b"a"], headers={b"content-length": b"1"}).ask(gate)).status == 200

    run(scenario, max_body=20)


def test_bodies_that_are_held_are_bounded():
    async def scenario(gate, application):
        headers = {b"content-length": b"20"}
        waiting = [Client("/slow", [b"a" * 20], headers) for _ in range(16)]
        tasks = [asyncio.create_task(one.ask(gate)) for one in waiting]
        await asyncio.sleep(0.01)
        refused = await Client(parts=[b"a"], headers={b"content-length": b"1"}).ask(gate)
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
        application.may.set()
        assert [one.status for one in await asyncio.gather(*tasks)] == [200] * 16

    run(scenario, max_body=20)


def test_bodies_that_are_announced_and_do_not_come_take_no_place():
    async def scenario(gate, application):
        waiting = [Client(parts=[], headers={b"content-length": b"20"}) for _ in range(50)]
        tasks = [asyncio.create_task(one.ask(gate)) for one in waiting]
        await asyncio.sleep(0.01)
        assert (await Client(parts=[b"a" * 20], headers={b"content-length": b"20"}).ask(gate)).status == 200
        for one in waiting:
            one.gone.set()
        await asyncio.gather(*tasks)

    run(scenario, max_body=20)


def test_a_body_that_does_not_end():
    async def scenario(gate, application):
        client = await Client(parts=[b"a"], whole=False).ask(gate)
        assert (client.status, client.error) == (408, "the request did not arrive in 0.05 seconds")

    run(scenario, body_seconds=0.05)


def test_an_answer_that_does_not_come():
    async def scenario(gate, application):
        client = await Client("/slow").ask(gate)
        assert (client.status, client.error) == (504, "there was no answer in 0.05 seconds")
        assert application.cancelled == 1

    run(scenario, answer_seconds=0.05)


def test_a_client_that_hangs_up():
    async def scenario(gate, application):
        client = Client("/slow")
        task = asyncio.create_task(client.ask(gate))
        await asyncio.sleep(0.01)
        client.gone.set()
        await task
        assert client.sent == []
        assert application.cancelled == 1
        half = Client(parts=[b"a"], whole=False)
        half.gone.set()
        assert (await half.ask(gate)).sent == []
        assert application.bodies == [0]

    run(scenario)


def test_a_token():
    async def scenario(gate, application):
        for headers in ({}, {b"authorization": b"Bearer no"}, {b"authorization": b"hunter2"}):
            client = await Client("/v1/predict", headers=headers).ask(gate)
            assert client.status == 401
            assert client.headers["www-authenticate"] == "Bearer"
        for path in ("/v1/predict", "/metrics"):
            assert (await Client(path, headers={b"authorization": b"Bearer hunter2"}).ask(gate)).status == 200
        for path in ("/", "/healthz", "/readyz", "/page/page.js"):
            assert (await Client(path).ask(gate)).status == 200
        assert (await Client("/metrics").ask(gate)).status == 401

    run(scenario, token="hunter2")


def test_names_of_the_host():
    async def scenario(gate, application):
        for host in (b"localhost", b"LOCALHOST:80", b"[::1]:8000"):
            assert (await Client(headers={b"host": host}).ask(gate)).status == 200
        for host in (b"evil.example", b"", b"localhost.evil.example:8000"):
            assert (await Client(headers={b"host": host}).ask(gate)).status == 421
        for origin, status in ((b"http://localhost:8000", 200), (b"http://evil.example", 403), (b"null", 403)):
            assert (await Client(headers={b"host": b"localhost", b"origin": origin}).ask(gate)).status == status

    run(scenario, hosts=("localhost", "[::1]"))


def test_a_server_that_is_about_to_end_closes_connections():
    async def scenario(gate, application):
        assert (await Client().ask(gate)).headers["connection"] == "keep-alive"
        gate.closing = True
        client = await Client().ask(gate)
        assert client.status == 200
        assert [value for name, value in client.sent[0]["headers"] if name == b"connection"] == [b"close"]

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"max_top_k": 0}, "max_top_k is 0"),
        ({"answer_seconds": 0.0}, "answer_seconds is 0"),
        ({"max_wait": -1.0}, "max_wait is -1"),
        ({"max_wait": float("nan")}, "max_wait is nan"),
        ({"max_inputs": 10, "max_queue": 9}, "max_inputs is 10, more than max_queue"),
    ],
)
def test_options_that_mean_nothing(fields, says):
    with pytest.raises(ValueError, match=says):
        Options(**fields)
