"""Ten thousand requests that no client would send: none may be a 500, and none may leave anything behind."""

import gc
import json
import os
import random
import resource

import httpx2 as httpx
import pytest

from tests.serving.conftest import encoded, png

REQUESTS = 10_000
ROUTES = (
    "/v1/predict",
    "/v1/predict/files",
    "/v1/embed",
    "/v1/verify",
    "/v1/search",
    "/v2/models/pictures/infer",
    "/v2/models/texts/infer",
    "/v2/models/sparse/infer",
    "/v2/models/features/infer",
    "/v2/models/faces/infer",
)
GETS = (
    "/",
    "/v1/models",
    "/v1/neighbours?id=3&model=sparse",
    "/v1/neighbours?id=-1&top_k=9",
    "/v2",
    "/v2/models/texts",
    "/v2/models/%00",
    "/page/page.js",
    "/page/%2e%2e/app.py",
    "/x" * 50,
)
MODELS = ("pictures", "texts", "faces", "features", "sparse", "none", None, 3)
ODD = (None, True, -1, 0, 2**70, 1e308, "", "\ud800", "a\0b", [], {}, [[]], "9" * 300, "data:,", float("nan"), "√" * 9)


def odd(rng, depth=0):
    """A value of JSON, or nearly."""
    kind = rng.random()
    if kind < 0.5 or depth > 3:
        return rng.choice(ODD)
    if kind < 0.6:
        return encoded(damaged(rng, png((8, 8, 3))))
    if kind < 0.8:
        return [odd(rng, depth + 1) for _ in range(rng.randrange(4))]
    names = ("indices", "values", "name", "shape", "datatype", "data", "parameters", "top_k")
    return {rng.choice(names): odd(rng, depth + 1) for _ in range(rng.randrange(4))}


def damaged(rng, content):
    content = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(content))
        action = rng.randrange(3)
        if action == 0:
            content[place] = rng.randrange(256)
        elif action == 1:
            del content[place : place + rng.randrange(1, 20)]
        else:
            content[place:place] = rng.randbytes(rng.randrange(1, 20))
        if not content:
            return b"\0"
    return bytes(content)


def good(rng, route):
    if route.startswith("/v2"):
        tensor = {"name": rng.choice(["text", "image", "features"]), "datatype": "BYTES", "shape": [1], "data": ["3 4"]}
        return {"inputs": [tensor], "parameters": {"top_k": 2}, "id": "a"}
    if route == "/v1/verify":
        return {"inputs": [encoded(png((8, 8, 3), seed)) for seed in range(2)], "model": "faces"}
    return {"inputs": ["3 4 5"], "model": "texts", "top_k": 3, "threshold": 0.1, "digits": True}


def request(rng):
    """(method, path, headers, body)."""
    if rng.random() < 0.1:
        return "GET", rng.choice(GETS), {}, b""
    route = rng.choice(ROUTES)
    body = good(rng, route)
    if rng.random() < 0.5:
        body[rng.choice(list(body))] = odd(rng)
    if rng.random() < 0.2:
        body[rng.choice(["model", "inputs", "x"])] = rng.choice([rng.choice(MODELS), odd(rng)])
    content = json.dumps(body).encode()
    if rng.random() < 0.3:
        content = damaged(rng, content)
    headers = {"Content-Type": "application/json"}
    if rng.random() < 0.1:
        kinds = (
            "text/plain",
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "application/json; charset=\xff",
        )
        headers["Content-Type"] = rng.choice(kinds)
    if rng.random() < 0.1:
        headers["Inference-Header-Content-Length"] = rng.choice(["0", "-1", "²", str(len(content) // 2), "9" * 30])
    if route == "/v1/predict/files" and rng.random() < 0.8:
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + png() + b"\r\n--x--\r\n"
        content = damaged(rng, part) if rng.random() < 0.8 else part
        headers["Content-Type"] = "multipart/form-data; boundary=x"
    return rng.choice(["POST"] * 9 + ["PUT"]), route, headers, content


@pytest.fixture
def collector():
    """Python's own habit of collecting garbage, which the suite changes."""
    changed = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*changed)


@pytest.mark.slow
# Starlette leaves the files of a broken form to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_no_request_is_a_fault(client, gate, collector):
    async def ask(start, count):
        statuses = []
        transport = httpx.ASGITransport(gate, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asking:
            for number in range(start, start + count):
                method, path, headers, body = request(random.Random(number))
                headers = {name: value.encode("latin-1") for name, value in headers.items()}
                response = await asking.request(method, path, headers=headers, content=body)
                assert response.status_code < 500, (number, method, path, body, response.text)
                if response.status_code >= 400:
                    assert list(response.json()) == ["error"], number
                    assert "\n" not in response.json()["error"], number
                statuses.append(response.status_code)
        return statuses

    # In the loop in which the application lives.
    run = lambda start, count: client.portal.call(ask, start, count)
    found = run(0, REQUESTS // 5)
    files, memory = len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found += run(REQUESTS // 5, REQUESTS - REQUESTS // 5)
    assert len(found) == REQUESTS
    assert {200, 400, 404, 405, 422} <= set(found)
    assert len(os.listdir("/proc/self/fd")) <= files + 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100 * 1024
    assert client.get("/metrics").text.count("mhe_requests_total{") < 100
